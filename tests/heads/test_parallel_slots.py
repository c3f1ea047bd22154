"""Empty slots after the prompt: one pass, each seeing all, the prompt none of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kinema.core.errors import KinemaError
from kinema.heads.parallel_slots import ParallelSlots, ParallelSlotsHead
from kinema.heads.text_tokens import TextTokens
from kinema.nets.base import KV, Context, Extend, Group, Tokens
from kinema.nets.language.sizes import Decoder
from kinema.nets.trunks.language_model import LanguageModel, LanguageModelTrunk
from kinema.sim.fork import Fork

WIDTH, HORIZON, ACTIONS = 32, 8, 7
SIZE = Decoder(family="llama", layers=2, width=WIDTH, hidden=48, heads=4, kv_heads=2, head_width=8, vocabulary=400)


@dataclass
class Watched(Extend):
    """A trunk that counts its passes, and adds `nudge` to slot number `slot`."""

    trunk: LanguageModelTrunk
    slot: int = 0
    nudge: float = 0.0
    seen: list[tuple[int, bool]] = field(default_factory=list)

    @property
    def vocabulary(self) -> int:  # type: ignore[override]
        return self.trunk.vocabulary

    def embed(self, ids: Tensor) -> Tensor:
        return self.trunk.embed(ids)

    def extend(self, values: Tensor, past: KV, mask: Tensor, *, causal: bool) -> tuple[Tensor, KV]:
        self.seen.append((values.shape[1], causal))
        if self.nudge:
            values = values.index_add(1, torch.tensor([self.slot]), torch.full((len(values), 1, WIDTH), self.nudge))
        return self.trunk.extend(values, past, mask, causal=causal)

    def logits(self, hidden: Tensor, words: Tensor | None = None) -> Tensor:
        return self.trunk.logits(hidden, words)


def made(batch: int = 3) -> tuple[ParallelSlotsHead, LanguageModelTrunk, Context]:
    torch.manual_seed(0)
    trunk = LanguageModel(size=SIZE).build([Group(name="p", tokens=4)], width=WIDTH).eval()
    with torch.no_grad():
        for parameter in trunk.parameters():
            parameter.mul_(4.0 if parameter.ndim > 1 else 1.0)
    mask = torch.ones(batch, 4, dtype=torch.bool)
    mask[1, 3:] = False
    values = torch.randn(batch, 4, WIDTH)
    head = ParallelSlots().build(action_width=ACTIONS, pred_horizon=HORIZON, width=WIDTH)
    return head, trunk, trunk(Tokens(values, mask))


def test_all_numbers_come_from_one_pass_and_words_from_many() -> None:
    head, trunk, context = made()
    slots, words = Watched(trunk), Watched(trunk)
    chunk = head.sample(replace(context, extend=slots), rng=torch.Generator())
    assert chunk.shape == (3, HORIZON, ACTIONS) and slots.seen == [(HORIZON * ACTIONS, False)]
    speaking = TextTokens().build(action_width=ACTIONS, pred_horizon=HORIZON, width=WIDTH)
    speaking.sample(replace(context, extend=words), rng=torch.Generator())
    assert words.seen == [(1, True)] * (HORIZON * ACTIONS - 1)
    assert len(words.seen) >= 10 * len(slots.seen)


def test_every_slot_sees_every_other_and_the_prompt_sees_none() -> None:
    head, trunk, context = made()
    before = context.kv
    with torch.no_grad():
        plain = head.sample(context, rng=torch.Generator())
        for slot in (0, 20, HORIZON * ACTIONS - 1):
            nudged = replace(context, extend=Watched(trunk, slot=slot, nudge=1.0))
            changed = (head.sample(nudged, rng=torch.Generator()) - plain).abs().amax((0, 2))
            assert (changed > 1e-6).all(), f"slot {slot} reaches steps {changed.tolist()}"
        empty = torch.zeros(3, HORIZON * ACTIONS, WIDTH)
        for values in (empty, empty + 5.0):
            _, after = trunk.extend(values, before, context.mask, causal=False)
            for (key, value), (old_key, old_value) in zip(after, before, strict=True):
                assert torch.equal(key[:, :, :4], old_key) and torch.equal(value[:, :, :4], old_value)


def test_slots_read_the_prompt_but_for_what_is_absent() -> None:
    head, trunk, context = made()
    values = torch.randn(3, 4, WIDTH)

    def predicted(values: Tensor) -> Tensor:
        with torch.no_grad():
            return head.sample(trunk(Tokens(values, context.mask)), rng=torch.Generator())

    other = values.clone()
    other[1, 3] += 3.0  # absent
    other[2, 3] += 3.0
    same = [torch.equal(*pair) for pair in zip(predicted(values), predicted(other), strict=True)]
    assert same == [True, True, False]


def test_the_network_behind_the_slots_is_the_published_one() -> None:
    """MLPResNet of OpenVLA-OFT: norm, linear, ReLU; blocks x + ReLU(linear(norm x)); norm, linear; over A slots."""
    head, trunk, context = made()
    slots, _ = trunk.extend(torch.zeros(3, HORIZON * ACTIONS, WIDTH), context.kv, context.mask, causal=False)
    values = slots.reshape(3, HORIZON, ACTIONS * WIDTH)

    def layer(norm: nn.Module, linear: nn.Module, x: Tensor) -> Tensor:
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return (x * norm.weight + norm.bias) @ linear.weight.T + linear.bias

    x = layer(head.enter[0], head.enter[1], values).clamp(min=0)
    for block in head.blocks:
        x = x + layer(block[0], block[1], x).clamp(min=0)
    expected = layer(head.leave[0], head.leave[1], x)
    assert len(head.blocks) == 2
    assert torch.allclose(head.sample(context, rng=torch.Generator()), expected, atol=1e-5)
    action, mask = torch.zeros_like(expected), torch.ones(3, HORIZON, dtype=torch.bool)
    mask[0, 4:] = False
    loss = head.loss(context, action, mask, rng=torch.Generator())
    assert torch.allclose(loss, expected.abs().mean(-1) * mask, atol=1e-5)


def test_it_learns_the_way_of_the_majority(speaking: Callable[..., Any]) -> None:
    """The absolute error is least at the median, that of the more frequent mode; what is drawn has one mode only."""
    fork = Fork(correlated=True, horizon=2, majority=0.65)
    modes = fork.judge(speaking(ParallelSlots(), fork, steps=200).sample(20))
    assert modes.left == 1.0, modes


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(KinemaError, match="blocks -1 must be at least 0"):
        ParallelSlots(blocks=-1).build(action_width=1, pred_horizon=1, width=4)
    head, _, context = made()
    with pytest.raises(KinemaError, match="ParallelSlotsHead goes on with the trunk where the prompt ends"):
        head.sample(replace(context, extend=None), rng=torch.Generator())
