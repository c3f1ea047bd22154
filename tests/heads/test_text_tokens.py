"""Actions in the trunk's language: published ids, the loss of a published model, and answers word by word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kinema.actions.bins import Bins
from kinema.actions.fast import FAST, UnfittedFAST
from kinema.core.errors import KinemaError
from kinema.core.rng import generator
from kinema.heads.text_tokens import TextTokens, TextTokensHead
from kinema.nets.base import KV, Context, Extend, Group, Tokens
from kinema.nets.language.sizes import Decoder
from kinema.nets.trunks.language_model import LanguageModel, LanguageModelTrunk
from kinema.sim.fork import Fork

HORIZON, ACTIONS, WIDTH, PROMPT = 2, 3, 32, 5
SIZE = Decoder(
    family="llama", layers=2, width=WIDTH, hidden=48, heads=4, kv_heads=2, head_width=8, vocabulary=400, tied=False
)
FORK = Fork(horizon=8)


class Counted(Extend):
    """A trunk that remembers how often it went on, and with which words."""

    def __init__(self, trunk: Extend) -> None:
        self.trunk, self.vocabulary = trunk, trunk.vocabulary
        self.passes, self.words = 0, set[int]()

    def embed(self, ids: Tensor) -> Tensor:
        self.words |= set(ids.flatten().tolist())
        return self.trunk.embed(ids)

    def extend(self, values: Tensor, past: KV, mask: Tensor, *, causal: bool) -> tuple[Tensor, KV]:
        self.passes += 1
        return self.trunk.extend(values, past, mask, causal=causal)

    def logits(self, hidden: Tensor, words: Tensor | None = None) -> Tensor:
        return self.trunk.logits(hidden, words)


def trunk_of(size: Decoder = SIZE, attention: Any = "prefix", spread: float = 4.0) -> LanguageModelTrunk:
    """Return a trunk with larger weights than fresh ones, so that what it says depends on what it read."""
    torch.manual_seed(0)
    trunk = LanguageModel(size=size, attention=attention).build([Group(name="p", tokens=PROMPT)], width=size.width)
    with torch.no_grad():
        for parameter in trunk.parameters():
            if parameter.ndim > 1:
                parameter *= spread
    return trunk.eval()


def prompt_of(batch: int, words: int = 200) -> tuple[Tensor, Tensor]:
    """Return words (B, N) and which are there: every other prompt is shorter by two."""
    ids = torch.randint(0, words, (batch, PROMPT), generator=torch.Generator().manual_seed(1))
    mask = torch.ones(batch, PROMPT, dtype=torch.bool)
    mask[1::2, 3:] = False
    return torch.where(mask, ids, -1), mask


def context_of(trunk: LanguageModelTrunk, batch: int) -> Context:
    ids, mask = prompt_of(batch)
    return trunk(Tokens(torch.zeros(*ids.shape, trunk.model.size.width), mask, ids=ids))


def head_of(config: TextTokens, horizon: int = HORIZON, actions: int = ACTIONS) -> TextTokensHead:
    return config.build(action_width=actions, pred_horizon=horizon, width=WIDTH)


def actions_of(batch: int, horizon: int = HORIZON) -> Tensor:
    return torch.rand(batch, horizon, ACTIONS, generator=torch.Generator().manual_seed(2)) * 2 - 1


def all_at_once(trunk: LanguageModelTrunk, words: Tensor, *, causal: bool) -> Tensor:
    """Return the logits (B, L, V) after the prompt and after each of `words` (B, L - 1), by one pass over everything.

    What reads what is spelt out: the prompt reads itself, in both directions unless `causal`, the words what is before.
    """
    ids, mask = prompt_of(len(words))
    every, present = torch.cat([ids, words], 1), F.pad(mask, (0, words.shape[1]), value=True)
    count = every.shape[1]
    read = torch.zeros(len(words), count, count, dtype=torch.bool)
    for row in range(len(words)):
        for query in range(count):
            for key in range(count):
                both_prompt = query < PROMPT and key < PROMPT
                seen = key <= query or (both_prompt and not causal)
                read[row, query, key] = (seen and present[row, key]) or key == query
    positions = (present.cumsum(1) - 1).clamp(min=0)
    values = trunk.embed(every.clamp(min=0)) * (every >= 0)[..., None]
    hidden, _ = trunk.model(values, positions, read)
    last = mask.sum(1) - 1
    after_prompt = hidden[torch.arange(len(hidden)), last][:, None]
    return trunk.logits(torch.cat([after_prompt, hidden[:, PROMPT:]], dim=1))


def fast() -> FAST:
    return FAST.fit(list(FORK.chunks(500, generator("text tokens"))), scale=10.0, vocabulary=128)


FAST_WORDS = {"reserved": 20, "before": (65, 58, 32), "after": (124, 250)}


def test_actions_are_openvlas_words() -> None:
    """Kim et al.: of Llama-2's 32000 words the last 256; the model has 64 more rows, which no text uses."""
    trunk = LanguageModel(size=replace(SIZE, vocabulary=32_064)).build([Group(name="p", tokens=1)], width=WIDTH)
    head = head_of(TextTokens(vocabulary=32_000, before=(29_871,), after=(2,)), horizon=1)
    tokens, real = head.rows.encode(torch.tensor([[[-1.0, 0.0, 1.0]]]), torch.ones(1, 1, dtype=torch.bool))
    words, learnt = head._words(tokens, real, head._vocabulary(trunk))
    assert words.tolist() == [[29_871, 31_999, 31_872, 31_744, 2]]
    assert learnt.tolist() == [[False, True, True, True, True]]


def test_the_loss_is_that_of_transformers_on_the_actions_ids() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=400, hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, tie_word_embeddings=False, rms_norm_eps=SIZE.norm_eps,
    )  # fmt: skip
    trunk = trunk_of(attention="causal")
    published = transformers.LlamaForCausalLM(config).eval()
    published.load_state_dict(trunk.state_dict())
    action, mask = actions_of(4), torch.ones(4, HORIZON, dtype=torch.bool)
    mask[2, 1:] = False
    head = head_of(TextTokens(before=(7,)))
    bins = torch.from_numpy(Bins(convention="openvla").encode(torch.where(mask[..., None], action, 0.0).numpy()))
    words = F.pad(399 - bins.flatten(1), (1, 0), value=7)
    ids, present = prompt_of(4)
    labels = torch.where(mask[..., None].expand_as(action).flatten(1), words[:, 1:], -100)
    present = F.pad(present, (0, words.shape[1]), value=True)
    given = {
        "input_ids": torch.cat([ids.clamp(min=0), words], dim=1),
        "attention_mask": present,
        "position_ids": (present.cumsum(1) - 1).clamp(min=0),
        "labels": F.pad(labels, (PROMPT + 1, 0), value=-100),
    }
    own = head.loss(context_of(trunk, 4), action, mask, rng=torch.Generator())
    assert own.shape == mask.shape and (own[~mask] == 0).all()
    assert (own.sum() / mask.sum() - published(**given).loss).abs() <= 1e-5
    given["labels"] = torch.cat([given["labels"], torch.full((4, 1), 2)], dim=1)
    given["input_ids"] = F.pad(given["input_ids"], (0, 1), value=2)
    given["attention_mask"] = F.pad(present, (0, 1), value=True)
    given["position_ids"] = (given["attention_mask"].cumsum(1) - 1).clamp(min=0)
    closed = head_of(TextTokens(before=(7,), after=(2,)))
    whole = torch.ones_like(mask)
    given["labels"][:, PROMPT + 1 : -1] = words[:, 1:]
    own = closed.loss(context_of(trunk, 4), torch.where(mask[..., None], action, 0.0), whole, rng=torch.Generator())
    assert (own.mean() - published(**given).loss).abs() <= 1e-5


@pytest.mark.parametrize("attention", ["causal", "prefix"])
def test_answers_word_by_word_are_those_of_whole_passes(attention: Any) -> None:
    trunk = trunk_of(attention=attention)
    head = head_of(TextTokens(before=(7, 9)))
    drawn = head.sample(context_of(trunk, 6), rng=torch.Generator())
    known = 399 - torch.arange(256)
    words, tokens = torch.tensor([[7, 9]]).repeat(6, 1), []
    for _ in range(HORIZON * ACTIONS):
        best = all_at_once(trunk, words, causal=attention == "causal")[:, -1, known].argmax(-1)
        tokens.append(best)
        words = torch.cat([words, known[best][:, None]], dim=1)
    expected = Bins(convention="openvla").decode(torch.stack(tokens, dim=1).numpy()).reshape(6, HORIZON, ACTIONS)
    assert np.array_equal(drawn.numpy(), expected.astype(np.float32))
    assert len(np.unique(expected, axis=0)) > 3, "the answers differ, or the test says little"


def test_no_word_that_is_not_an_action_is_ever_said() -> None:
    trunk = Counted(trunk_of(replace(SIZE, vocabulary=2000)))
    context = replace(context_of(trunk.trunk, 2000), extend=trunk)  # type: ignore[arg-type]
    head = head_of(TextTokens(temperature=5.0))
    free = trunk.logits(context.readout["action"])[:, 0].div(5.0).softmax(-1)[:, 1744:].sum(-1)
    assert free.mean() < 0.5, "left alone the trunk would say others"
    head.sample(context, rng=torch.Generator().manual_seed(3))
    assert trunk.words <= set(range(1744, 2000)) and len(trunk.words) > 200  # 12 000 words
    assert trunk.passes == HORIZON * ACTIONS - 1


def test_logits_of_some_words_are_those_among_all() -> None:
    trunk = trunk_of()
    hidden, words = context_of(trunk, 3).tokens, torch.tensor([399, 3, 250])
    assert torch.allclose(trunk.logits(hidden, words), trunk.logits(hidden)[..., words], atol=1e-6)


def test_words_of_fast_are_laid_out_row_by_row() -> None:
    codec, trunk = fast(), trunk_of()
    head = head_of(TextTokens(codec=codec, learns_before=True, **FAST_WORDS), horizon=8, actions=2)
    chunks = FORK.chunks(16, generator("words of fast"))
    tokens, real = head.rows.encode(torch.from_numpy(chunks), torch.ones(16, 8, dtype=torch.bool))
    words, learnt = head._words(tokens, real, head._vocabulary(trunk))
    assert words.shape == learnt.shape == (16, 3 + codec.longest + 2)
    for row, kept, chunk in zip(words.tolist(), learnt.tolist(), chunks, strict=True):
        postfix = [65, 58, 32, *(400 - 1 - 20 - codec.encode(chunk)).tolist(), 124, 250]
        assert row[: len(postfix)] == postfix
        assert kept == [True] * len(postfix) + [False] * (len(row) - len(postfix))


@pytest.mark.parametrize("learns_before", [True, False])
def test_the_loss_of_fast_is_of_the_answer_alone(learns_before: bool) -> None:
    """pi0-FAST: the prompt reads itself in both directions, the answer what is before, and all of it is learnt."""
    codec, trunk = fast(), trunk_of()
    head = head_of(TextTokens(codec=codec, learns_before=learns_before, **FAST_WORDS), horizon=8, actions=2)
    chunks, mask = FORK.chunks(4, generator("loss of fast")), torch.ones(4, 8, dtype=torch.bool)
    mask[3, 6:] = False
    chunks[3, 6:] = chunks[3, 5]
    own = head.loss(context_of(trunk, 4), torch.from_numpy(chunks), mask, rng=torch.Generator())
    rows = [[65, 58, 32, *(379 - codec.encode(chunk)).tolist(), 124, 250] for chunk in chunks]
    longest = max(map(len, rows))
    words = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    log_p = all_at_once(trunk, words[:, :-1], causal=False).log_softmax(-1)
    each = [
        torch.stack([-log_p[i, k, word] for k, word in enumerate(row)][0 if learns_before else 3 :]).mean()
        for i, row in enumerate(rows)
    ]
    assert (own.sum() / mask.sum() - torch.stack(each).mean()).abs() <= 1e-5
    assert torch.allclose(own[0], own[0, :1].expand(8)) and (own[3, 6:] == 0).all()


class Scripted(Extend):
    """A trunk that says `rows` (B, L), whatever it hears."""

    def __init__(self, rows: Tensor) -> None:
        self.rows, self.place, self.vocabulary = rows, 0, 400

    def embed(self, ids: Tensor) -> Tensor:
        return torch.zeros(*ids.shape, WIDTH)

    def extend(self, values: Tensor, past: KV, mask: Tensor, *, causal: bool) -> tuple[Tensor, KV]:
        return values, past

    def logits(self, hidden: Tensor, words: Tensor | None = None) -> Tensor:
        said = F.one_hot(self.rows[:, self.place], 400).float()[:, None]
        self.place += 1
        return said if words is None else said[..., words]


def test_what_is_no_chunk_is_zeros_and_a_warning() -> None:
    codec = fast()
    head = head_of(TextTokens(codec=codec, **FAST_WORDS), horizon=8, actions=2)
    chunks = FORK.chunks(3, generator("corrupted"))
    rows = torch.full((3, codec.longest + 1), 124)
    for row, chunk in zip(rows, chunks, strict=True):
        row[: len(codec.encode(chunk))] = torch.from_numpy(379 - codec.encode(chunk))
    rows[1, 0] = 124  # it ends before it begins
    context = Context(
        tokens=torch.zeros(3, 1, WIDTH),
        mask=torch.ones(3, 1, dtype=torch.bool),
        readout={"action": torch.zeros(3, 1, WIDTH)},
        kv=(),
        extend=Scripted(rows),
    )
    with pytest.warns(UserWarning, match="1 of 3 sampled rows of tokens are no chunk: zeros instead"):
        drawn = head.sample(context, rng=torch.Generator())
    assert (drawn[1] == 0).all()
    assert np.abs(drawn[[0, 2]].numpy() - chunks[[0, 2]]).max() <= 0.05 * np.sqrt(8) + 1e-6


def test_what_belongs_together_is_said_together(speaking: Callable[..., Any]) -> None:
    fork = Fork(correlated=True, horizon=2)
    alone = speaking(TextTokens(temperature=1.0), fork, steps=300)
    drawn = fork.judge(alone.sample(1000))
    assert drawn.invalid <= 0.05 and drawn.cover >= 0.35, drawn


def test_words_that_the_trunk_does_not_have_or_that_mean_two_things_are_refused() -> None:
    trunk = trunk_of()
    action, mask = actions_of(2), torch.ones(2, HORIZON, dtype=torch.bool)

    def refused(config: TextTokens, message: str) -> None:
        with pytest.raises(KinemaError, match=message):
            head_of(config).loss(context_of(trunk, 2), action, mask, rng=torch.Generator())

    refused(TextTokens(vocabulary=401), "words 145 to 400 for 256 tokens.*the trunk has the words 0 to 399")
    refused(TextTokens(reserved=200), "words -56 to 199")
    refused(TextTokens(after=(400,)), r"and the words \[400\]; the trunk has the words 0 to 399")
    refused(TextTokens(before=(300,), after=(2,)), r"the words \[300\] are before or after the action and also tokens")
    TextTokens(vocabulary=400).check_words(400, 258)
    TextTokens().check_words(514, 258)
    with pytest.raises(KinemaError, match=r"words 144 to 399 for 256 tokens; the prompt uses those below 258\n.*114"):
        TextTokens().check_words(400, 258)
    with pytest.raises(KinemaError, match="rows of FAST end, and no word says so"):
        head_of(TextTokens(codec=fast()))
    with pytest.raises(KinemaError, match="UnfittedFAST: the tokenizer is not fitted to any chunks yet"):
        head_of(TextTokens(codec=UnfittedFAST(), after=(2,)))
    with pytest.raises(KinemaError, match=r"temperature -1\.0 must be at least 0"):
        head_of(TextTokens(temperature=-1.0))


def test_a_trunk_without_words_is_refused() -> None:
    context = Context(tokens=torch.zeros(1, 1, WIDTH), mask=torch.ones(1, 1, dtype=torch.bool), readout={})
    with pytest.raises(KinemaError, match="TextTokensHead goes on with the trunk where the prompt ends"):
        head_of(TextTokens()).sample(context, rng=torch.Generator())


def test_a_codec_is_fitted_to_the_real_part_of_chunks() -> None:
    chunks, mask = FORK.chunks(300, generator("fitted")), np.ones((300, 8), bool)
    mask[:100, 5:] = False
    mask[100] = False
    held = chunks.copy()
    held[:100, 5:] = held[:100, 4:5]
    chunks[~mask] = 1e6
    config = TextTokens(codec=UnfittedFAST(scale=10.0, vocabulary=128), **FAST_WORDS)
    expected = FAST.fit([*held[:100], *held[101:]], scale=10.0, vocabulary=128)
    assert config.fit(lambda: (chunks, mask)).codec == expected
    fitted = TextTokens(codec=expected)
    assert fitted.fit(lambda: pytest.fail("nothing to fit")) == fitted


def test_an_entry_of_padding_alone_has_no_loss_and_a_finite_gradient() -> None:
    trunk, action, mask = trunk_of(), actions_of(2), torch.ones(2, HORIZON, dtype=torch.bool)
    mask[1] = False
    for config in (TextTokens(), TextTokens(after=(2,)), TextTokens(before=(7,), learns_before=True)):
        trunk.zero_grad()
        loss = head_of(config).loss(context_of(trunk, 2), action, mask, rng=torch.Generator())
        assert (loss[1] == 0).all() and (loss[0] > 0).all()
        loss.sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in trunk.parameters() if p.grad is not None)
