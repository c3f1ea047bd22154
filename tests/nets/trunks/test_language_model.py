"""What the trunk reads: masks by brute force, going on with and without what was kept, refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from kinema.core.errors import KinemaError
from kinema.core.spec import ActionSpec, ObservationSpec, RobotSpec, Vector
from kinema.heads.regression import Regression
from kinema.nets.base import Context, Group, Tokens
from kinema.nets.encoders.prompt import Prompt
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.encoders.words import Words
from kinema.nets.language.sizes import TINY, Decoder
from kinema.nets.trunks.fusion import Fusion
from kinema.nets.trunks.language_model import LanguageModel, LanguageModelTrunk
from kinema.policies.base import PolicyConfig
from kinema.policies.network import Network

BATCH, WIDTH = 2, 24
SIZE = Decoder(
    family="gemma", layers=3, width=WIDTH, hidden=40, heads=4, kv_heads=1, head_width=8, vocabulary=31, tied=False
)
GROUPS = (Group(name="seen", tokens=3), Group(name="told", tokens=3), Group(name="state", tokens=2))
COUNT = 8


def trunk_of(**options: Any) -> LanguageModelTrunk:
    torch.manual_seed(0)
    trunk = LanguageModel(**{"size": SIZE, **options}).build(GROUPS, width=WIDTH).eval()
    with torch.no_grad():
        for weight in trunk.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape))
    return trunk


def tokens_of(count: int = COUNT) -> Tokens:
    """Tokens of which the second row lacks two in the middle."""
    values = torch.randn(BATCH, count, WIDTH, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(BATCH, count, dtype=torch.bool)
    mask[1, 3:5] = False
    return Tokens(values, mask)


def without_cache(trunk: LanguageModelTrunk, tokens: Tokens, added: Tensor, read: Tensor) -> Tensor:
    """The hidden of all tokens at once, where `read` (B, N + L, N + L) is what each reads."""
    values = torch.cat([tokens.values, added], dim=1)
    present = torch.cat([tokens.mask, torch.ones(added.shape[:2], dtype=torch.bool)], dim=1)
    return trunk.model(values, (present.cumsum(1) - 1).clamp(min=0), read)[0]


@pytest.mark.parametrize("attention", ["causal", "prefix"])
@pytest.mark.parametrize("causal", [True, False])
@torch.no_grad()
def test_going_on_is_the_same_as_reading_all_at_once(attention: str, causal: bool) -> None:
    trunk, tokens, length = trunk_of(attention=attention), tokens_of(), 4
    added = trunk.embed(torch.randint(0, 31, (BATCH, length), generator=torch.Generator().manual_seed(2)))
    read = torch.zeros(BATCH, COUNT + length, COUNT + length, dtype=torch.bool)
    for row in range(BATCH):
        for reader in range(COUNT + length):
            for other in range(COUNT + length):
                new = other >= COUNT
                allowed = reader >= COUNT if new else bool(tokens.mask[row, other])
                if (attention == "causal" and reader < COUNT) or (causal and new):
                    allowed = allowed and other <= reader
                read[row, reader, other] = allowed or other == reader
    expected = without_cache(trunk, tokens, added, read)
    context = trunk(tokens)
    present = tokens.mask
    assert torch.allclose(context.tokens[present], expected[:, :COUNT][present], atol=1e-5)
    hidden, kv = trunk.extend(added, context.kv, context.mask, causal=causal)
    assert torch.allclose(hidden, expected[:, COUNT:], atol=1e-5)
    assert all(key.shape == value.shape == (BATCH, 1, COUNT + length, 8) for key, value in kv)
    if causal:
        steps, mask, past = [], context.mask, context.kv
        for index in range(length):
            one, past = trunk.extend(added[:, index : index + 1], past, mask, causal=True)
            mask = torch.cat([mask, torch.ones(BATCH, 1, dtype=torch.bool)], dim=1)
            steps.append(one)
        assert torch.allclose(torch.cat(steps, dim=1), hidden, atol=1e-5)
        for last, together in zip(past, kv, strict=True):
            assert torch.allclose(last[0], together[0], atol=1e-5) and torch.allclose(last[1], together[1], atol=1e-5)


@torch.no_grad()
def test_going_on_leaves_what_was_kept_as_it_is() -> None:
    trunk, tokens = trunk_of(), tokens_of()
    context = trunk(tokens)
    before = [(key.clone(), value.clone()) for key, value in context.kv]
    for seed in (3, 4):
        added = torch.randn(BATCH, 5, WIDTH, generator=torch.Generator().manual_seed(seed))
        _, kv = trunk.extend(added, context.kv, context.mask, causal=False)
        for kept, new, old in zip(context.kv, kv, before, strict=True):
            for index in range(2):
                assert torch.equal(kept[index], old[index]) and torch.equal(new[index][:, :, :COUNT], old[index])


@pytest.mark.parametrize("attention", ["causal", "prefix"])
@torch.no_grad()
def test_padding_in_the_middle_changes_nothing(attention: str) -> None:
    trunk, tokens = trunk_of(attention=attention), tokens_of()
    kept = [0, 1, 2, 5, 6, 7]
    torch.manual_seed(0)
    short = LanguageModel(size=SIZE, attention=attention).build([Group(name="all", tokens=6)], width=WIDTH).eval()
    short.load_state_dict(trunk.state_dict())
    whole, cut = trunk(tokens), short(Tokens.present(tokens.values[:, kept]))
    assert torch.allclose(whole.tokens[1, kept], cut.tokens[1], atol=1e-5)
    assert torch.allclose(whole.readout["action"][1], cut.readout["action"][1], atol=1e-5)
    for padded, plain in zip(whole.kv, cut.kv, strict=True):
        assert torch.allclose(padded[0][1, :, kept], plain[0][1], atol=1e-5)
    added = torch.randn(BATCH, 3, WIDTH, generator=torch.Generator().manual_seed(3))
    after = trunk.extend(added, whole.kv, whole.mask, causal=True)[0]
    assert torch.allclose(after[1], short.extend(added, cut.kv, cut.mask, causal=True)[0][1], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "blocks"),
    [
        ({}, [0] * 8),
        ({"attention": "causal"}, list(range(8))),
        ({"apart": ("state",)}, [0] * 6 + [1] * 2),
        ({"apart": ("told", "state")}, [0] * 3 + [1] * 3 + [2] * 2),
    ],
)
@torch.no_grad()
def test_a_changed_token_changes_exactly_those_that_read_it(options: dict[str, Any], blocks: list[int]) -> None:
    """Bit by bit: hidden, keys and values of the others stay as they are."""
    trunk, tokens = trunk_of(**options), tokens_of()
    before = trunk(tokens)
    for changed in range(COUNT):
        values = tokens.values.clone()
        values[:, changed] += 1.0
        after = trunk(replace(tokens, values=values))
        for row in range(BATCH):
            for reader in range(COUNT):
                reads = blocks[changed] <= blocks[reader] and bool(tokens.mask[row, changed])
                same = torch.equal(before.tokens[row, reader], after.tokens[row, reader])
                assert same != (reads or reader == changed), (row, reader, changed)
                if same:
                    for old, new in zip(before.kv, after.kv, strict=True):
                        assert torch.equal(old[0][row, :, reader], new[0][row, :, reader])
                        assert torch.equal(old[1][row, :, reader], new[1][row, :, reader])


@torch.no_grad()
def test_words_are_embedded_and_the_readout_is_the_last_present_token() -> None:
    trunk, tokens = trunk_of(), tokens_of()
    ids = torch.full((BATCH, COUNT), -1)
    ids[:, 1], ids[:, 6] = 5, 30
    by_hand = tokens.values.clone()
    by_hand[:, 1], by_hand[:, 6] = (trunk.model.embed_tokens.weight[word] * WIDTH**0.5 for word in (5, 30))
    mask = tokens.mask.clone()
    mask[0, 5:] = False
    context = trunk(Tokens(tokens.values, mask, ids=ids))
    assert torch.equal(context.tokens, trunk(Tokens(by_hand, mask)).tokens)
    action = context.readout["action"][:, 0]
    assert torch.equal(action[0], context.tokens[0, 4]) and torch.equal(action[1], context.tokens[1, 7])
    assert isinstance(context, Context) and context.extend is trunk and trunk.vocabulary == 31
    assert trunk.logits(action).shape == (BATCH, 31)


def test_frozen_weights_stay_out_of_training_but_pass_gradients_on() -> None:
    trunk = trunk_of(frozen=True, layers=2).train()
    assert not trunk.training and not any(module.training for module in trunk.modules())
    assert not any(weight.requires_grad for weight in trunk.parameters()) and len(trunk.model.layers) == 2
    tokens = tokens_of()
    tokens.values.requires_grad_()
    trunk(tokens).readout["action"].square().sum().backward()
    assert torch.equal(tokens.values.grad.abs().amax(-1) > 0, tokens.mask)
    assert trunk_of().train().training


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(KinemaError, match="unknown attention of a language model 'casual'; did you mean 'causal'"):
        LanguageModel(size=SIZE, attention="casual").build(GROUPS, width=WIDTH)  # type: ignore[arg-type]
    with pytest.raises(KinemaError, match="its width is 24, the policy's 16"):
        LanguageModel(size=SIZE).build(GROUPS, width=16)
    with pytest.raises(KinemaError, match=r"apart names 'stat', .*did you mean 'state'"):
        LanguageModel(size=SIZE, apart=("stat",)).build(GROUPS, width=WIDTH)
    with pytest.raises(KinemaError, match="`apart` needs attention 'prefix'"):
        LanguageModel(size=SIZE, attention="causal", apart=("state",)).build(GROUPS, width=WIDTH)
    with pytest.raises(KinemaError, match="layers 4 is outside 1 to 3"):
        LanguageModel(size=SIZE, layers=4).build(GROUPS, width=WIDTH)
    with pytest.raises(KinemaError, match="vocabulary 0, so it could read no words"):
        LanguageModel(size=replace(SIZE, vocabulary=0)).build(GROUPS, width=WIDTH)
    with pytest.raises(KinemaError, match="'seen' brings positions of its own"):
        LanguageModel(size=SIZE).build([Group(name="seen", tokens=3, placed=True)], width=WIDTH)


SPEC = RobotSpec(
    embodiment="testarm",
    rate_hz=10.0,
    observation=ObservationSpec(
        cameras=(),
        vectors=(Vector(name="proprioception", components=("x", "y"), units=("m", "m"), frame="world"),),
        instruction=True,
    ),
    action=ActionSpec(
        components=("dx",),
        units=("cm",),
        frame="world",
        kind="end-effector delta position",
        integrator="controller",
        low=(-1.0,),
        high=(1.0,),
    ),
)


def policy(**changes: Any) -> PolicyConfig:
    config = PolicyConfig(
        encoders={"instruction": Prompt(), "state": Proprioception()},
        trunk=LanguageModel(size=TINY, apart=("state",)),
        head=Regression(),
        width=TINY.width,
        pred_horizon=2,
        exec_horizon=1,
    )
    return replace(config, **changes)


def test_a_policy_is_told_by_words() -> None:
    torch.manual_seed(0)
    network, rng = Network(policy(), SPEC), torch.Generator().manual_seed(0)
    sample = {"instruction": ["go left", "go right please"], "vector.proprioception": torch.zeros(2, 1, 2)}
    context = network.context(sample, rng)
    assert context.mask.sum(1).tolist() == [8 + 1, 16 + 1] and context.tokens.shape == (2, 49, 128)
    assert (context.readout["action"][0] - context.readout["action"][1]).abs().max() > 1e-4
    batch = {**sample, "action": torch.zeros(2, 2, 1), "mask": torch.ones(2, 2, dtype=torch.bool)}
    network.loss(batch, rng).mean().backward()
    assert network.trunk.model.embed_tokens.weight.grad[ord("g")].abs().max() > 0


def test_words_that_nobody_would_read_are_refused() -> None:
    with pytest.raises(KinemaError, match="'instruction' gives words of a vocabulary of 258, FusionTrunk knows none"):
        Network(policy(trunk=Fusion()), SPEC)
    with pytest.raises(KinemaError, match="vocabulary of 258, LanguageModelTrunk knows 100"):
        Network(policy(trunk=LanguageModel(size=replace(TINY, vocabulary=100))), SPEC)
    assert Network(policy(encoders={"instruction": Words()}, trunk=Fusion()), SPEC)
