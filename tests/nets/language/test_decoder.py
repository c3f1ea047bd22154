"""The decoder against the causal language models of transformers with the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import GemmaConfig, GemmaForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from kinema.core.errors import KinemaError
from kinema.nets.base import Group, Tokens
from kinema.nets.language.decoder import DecoderModel
from kinema.nets.language.sizes import Decoder
from kinema.nets.trunks.language_model import LanguageModel, LanguageModelTrunk

FAMILIES: dict[str, Any] = {
    "gemma": (GemmaConfig, GemmaForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
}
BATCH, LENGTH = 2, 7
GROUPS = (Group(name="told", tokens=3), Group(name="seen", tokens=4))


def size_of(family: Any, *, tied: bool = True) -> Decoder:
    """A model whose heads are wider than width / heads, and whose rotary angles are not the default ones."""
    return Decoder(
        family=family,
        layers=3,
        width=24,
        hidden=40,
        heads=4,
        kv_heads=2,
        head_width=8,
        vocabulary=31,
        tied=tied,
        rope_theta=500.0,
        norm_eps=1e-3,
    )


def oracle_of(size: Decoder) -> nn.Module:
    config, model = FAMILIES[size.family]
    torch.manual_seed(0)
    made = model(
        config(
            vocab_size=size.vocabulary,
            hidden_size=size.width,
            intermediate_size=size.hidden,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            num_key_value_heads=size.kv_heads,
            head_dim=size.head_width,
            rms_norm_eps=size.norm_eps,
            rope_theta=size.rope_theta,
            tie_word_embeddings=size.tied,
        )
    ).eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape))
    return made


def trunk_of(size: Decoder, oracle: nn.Module, **options: Any) -> LanguageModelTrunk:
    trunk = LanguageModel(size=size, **options).build(GROUPS, width=size.width).eval()
    given = oracle.state_dict()
    trunk.load_state_dict({name: given[name] for name in trunk.state_dict()}, strict=True)
    return trunk


def words(size: Decoder) -> Tensor:
    return torch.randint(0, size.vocabulary, (BATCH, LENGTH), generator=torch.Generator().manual_seed(1))


def told(ids: Tensor, width: int) -> Tokens:
    return Tokens(torch.full((*ids.shape, width), 9.0), torch.ones(ids.shape, dtype=torch.bool), ids=ids)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_causal_hidden_and_logits_are_those_of_transformers(family: str, tied: bool) -> None:
    size = size_of(family, tied=tied)
    oracle, ids = oracle_of(size), words(size)
    trunk = trunk_of(size, oracle, attention="causal")
    context = trunk(told(ids, size.width))
    assert torch.allclose(context.tokens, oracle.model(input_ids=ids).last_hidden_state, atol=1e-5)
    assert torch.allclose(trunk.logits(context.tokens), oracle(input_ids=ids).logits, atol=1e-5)
    assert torch.equal(context.readout["action"][:, 0], context.tokens[:, -1])


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_prefix_hidden_is_that_of_transformers_under_the_same_mask(family: str) -> None:
    """The first three tokens do not read the last four, and one of each row is absent."""
    size = size_of(family)
    oracle, ids = oracle_of(size), words(size)
    present = torch.ones(BATCH, LENGTH, dtype=torch.bool)
    present[0, 1] = present[1, 5] = False
    read = torch.zeros(BATCH, 1, LENGTH, LENGTH, dtype=torch.bool)
    for row in range(BATCH):
        for reader in range(LENGTH):
            for other in range(LENGTH):
                visible = other < 3 or reader >= 3
                read[row, 0, reader, other] = other == reader or (visible and bool(present[row, other]))
    positions = torch.tensor([[0, 0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 4, 5]])
    expected = oracle(input_ids=ids, attention_mask=read, position_ids=positions, output_hidden_states=True)
    tokens = Tokens(torch.zeros(BATCH, LENGTH, size.width), present, ids=ids)
    trunk = trunk_of(size, oracle, apart=("seen",))
    context = trunk(tokens)
    assert torch.allclose(context.tokens[present], expected.hidden_states[-1][present], atol=1e-5)
    assert torch.allclose(trunk.logits(context.tokens)[present], expected.logits[present], atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_kept_keys_and_values_are_those_of_transformers(family: str) -> None:
    size = size_of(family)
    oracle, ids = oracle_of(size), words(size)
    context = trunk_of(size, oracle, attention="causal")(told(ids, size.width))
    expected = list(oracle(input_ids=ids, use_cache=True).past_key_values)
    assert context.kv is not None and len(context.kv) == len(expected) == 3
    for ours, theirs in zip(context.kv, expected, strict=True):
        assert torch.allclose(ours[0], theirs[0], atol=1e-5) and torch.allclose(ours[1], theirs[1], atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False])
def test_weights_are_called_as_in_published_checkpoints(family: str, tied: bool) -> None:
    size = size_of(family, tied=tied)
    trunk = LanguageModel(size=size).build(GROUPS, width=size.width)
    # A tied model has the embedding twice in its state, once in its checkpoint.
    published = set(oracle_of(size).state_dict()) - ({"lm_head.weight"} if tied else set())
    assert set(trunk.state_dict()) == published and len(published) > 20


@pytest.mark.parametrize("family", FAMILIES)
def test_computing_layers_again_gives_the_same_loss_and_gradients(family: str) -> None:
    size, found = size_of(family), []
    oracle = oracle_of(size)
    for again in (False, True):
        trunk = trunk_of(size, oracle, gradient_checkpointing=again).train()
        calls: list[int] = []
        trunk.model.layers[0].register_forward_pre_hook(lambda *_, seen=calls: seen.append(1))
        values = torch.randn(BATCH, LENGTH, size.width, generator=torch.Generator().manual_seed(2)).requires_grad_()
        context = trunk(Tokens.present(values))
        hidden, kv = trunk.extend(trunk.embed(words(size)), context.kv, context.mask, causal=True)
        assert len(calls) == 2
        loss = trunk.logits(hidden).square().mean() + sum(key.sin().mean() + value.mean() for key, value in kv)
        loss.backward()
        assert len(calls) == (4 if again else 2)
        found.append([loss.detach(), values.grad, *(weight.grad for weight in trunk.parameters())])
    for kept, again in zip(*found, strict=True):
        assert torch.equal(kept, again)


def test_a_size_without_words_reads_values_alone() -> None:
    size = Decoder(family="gemma", layers=1, width=8, hidden=8, heads=1, kv_heads=1, head_width=8, vocabulary=0)
    model = DecoderModel(size)
    assert not any("embed" in name for name, _ in model.named_parameters())
    hidden, kv = model(torch.randn(2, 3, 8), torch.arange(3).expand(2, -1), torch.ones(2, 3, 3, dtype=torch.bool))
    assert hidden.shape == (2, 3, 8) and kv[0][0].shape == (2, 1, 3, 8)
    with pytest.raises(KinemaError, match="no words"):
        model.embed(torch.zeros(1, 1, dtype=torch.int64))
