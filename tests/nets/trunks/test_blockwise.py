"""Octo's transformer: its mask by brute force, and readouts that change nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinema.core.errors import KinemaError
from kinema.nets.base import Context, Group, Tokens
from kinema.nets.trunks.blockwise import Blockwise, BlockwiseTrunk, reading

GROUPS = (Group(name="told", tokens=3), Group(name="front", tokens=8, steps=2), Group(name="wrist", tokens=4, steps=2))
SMALL = Blockwise(layers=3, heads=2, hidden=24)
WIDTH, TOKENS = 12, 15


def build(config: Blockwise = SMALL) -> BlockwiseTrunk:
    torch.manual_seed(0)
    return config.build(GROUPS, width=WIDTH).eval()


def values() -> torch.Tensor:
    return torch.randn(2, TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))


def of(trunk: BlockwiseTrunk, tokens: torch.Tensor, mask: torch.Tensor | None = None) -> Context:
    with torch.no_grad():
        return trunk(Tokens.present(tokens) if mask is None else Tokens(tokens, mask))


RULES: Mapping[str, tuple[str, ...]] = {"task_*": ("task_*",), "obs_*": ("task_*", "obs_*")}


def should_attend(own: str, step: int, other: str, before: int) -> bool:
    """Octo's rule for two tokens: the first of `own`'s patterns that fits `other` asks for an earlier or equal step."""
    rules = next((rules for pattern, rules in RULES.items() if fnmatch(own, pattern)), ("task_*", "obs_*", own))
    return any(fnmatch(other, rule) for rule in rules) and before <= step


@given(
    steps=st.integers(1, 3),
    tasks=st.lists(st.integers(1, 3), max_size=2),
    seen=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    readouts=st.lists(st.integers(1, 2), min_size=1, max_size=3),
    mixed=st.randoms(use_true_random=False),
)
@settings(max_examples=40, deadline=None)
def test_the_mask_is_octos_rule(
    steps: int, tasks: list[int], seen: list[int], readouts: list[int], mixed: object
) -> None:
    groups = [Group(name=f"task_{i}", tokens=n) for i, n in enumerate(tasks)]
    groups += [Group(name=f"obs_{i}", tokens=n * steps, steps=steps) for i, n in enumerate(seen)]
    mixed.shuffle(groups)  # type: ignore[attr-defined]
    named = {f"readout_{i}": n for i, n in enumerate(readouts)}
    tokens: list[tuple[str, int]] = []
    for group in groups:
        for step in range(group.steps) if group.steps else [-1]:
            tokens += [(group.name, step)] * (group.tokens // max(group.steps, 1))
    for name, count in named.items():
        for step in range(steps):
            tokens += [(name, step)] * count
    expected = [[should_attend(*own, *other) for other in tokens] for own in tokens]
    assert reading(groups, named) == expected


def test_a_readout_of_another_name_changes_nothing() -> None:
    """Exactly, whatever the other is; without it there are fewer numbers to add, which may round differently."""
    two = replace(SMALL, readouts={"action": 1, "value": 2})
    trunk, tokens = build(two), values()
    before = of(trunk, tokens)
    with torch.no_grad():
        trunk.positions["readout_value"].mul_(-50.0).add_(3.0)
    after = of(trunk, tokens)
    assert torch.equal(before.readout["action"], after.readout["action"]) and torch.equal(before.tokens, after.tokens)
    assert (before.readout["value"] - after.readout["value"]).abs().max() > 1e-2
    alone = build()
    missing, unexpected = alone.load_state_dict(trunk.state_dict(), strict=False)
    assert not missing and unexpected == ["positions.readout_value"]
    deleted = of(alone, tokens)
    assert torch.allclose(deleted.readout["action"], before.readout["action"], atol=1e-6)
    assert torch.allclose(deleted.tokens, before.tokens, atol=1e-6)
    assert before.readout["value"].shape == (2, 2, WIDTH)


def test_no_token_is_moved_by_any_readout() -> None:
    trunk = build(replace(SMALL, readouts={"action": 1, "value": 2}))
    context = trunk(Tokens.present(values()))
    names = ("readout_action", "readout_value")
    gradients = torch.autograd.grad(
        context.tokens.square().sum(), [trunk.positions[name] for name in names], allow_unused=True, retain_graph=True
    )
    assert all(g is None or (g == 0).all() for g in gradients)
    (gradient,) = torch.autograd.grad(context.readout["action"].square().sum(), [trunk.positions["readout_value"]])
    assert (gradient == 0).all()


def test_later_steps_change_nothing_earlier_and_the_instruction_nothing_else() -> None:
    trunk, tokens = build(), values()
    before, changed = of(trunk, tokens), tokens.clone()
    changed[:, 7:11] *= -2.0
    changed[:, 13:] *= -2.0
    after = of(trunk, changed)
    early = [0, 1, 2, 3, 4, 5, 6, 11, 12]
    assert torch.equal(before.tokens[:, early], after.tokens[:, early])
    assert (before.readout["action"] - after.readout["action"]).abs().max() > 1e-4
    changed = tokens.clone()
    changed[:, 3:] *= -2.0
    assert torch.equal(of(trunk, changed).tokens[:, :3], before.tokens[:, :3])


def test_a_missing_camera_has_no_influence() -> None:
    trunk, tokens = build(), values()
    mask = torch.ones(2, TOKENS, dtype=torch.bool)
    mask[0, 11:] = False
    before = of(trunk, tokens, mask).readout["action"]
    changed = tokens.clone()
    changed[:, 11:] = 100.0
    moved = (of(trunk, changed, mask).readout["action"] - before).abs().amax((1, 2))
    assert moved[0] == 0 and moved[1] > 1e-2
    alone = SMALL.build(GROUPS[:2], width=WIDTH).eval()
    alone.load_state_dict(trunk.state_dict(), strict=False)
    assert torch.allclose(of(alone, tokens[:1, :11]).readout["action"], before[:1], atol=1e-6), (
        "as if it were not there"
    )


def test_nothing_present_is_finite() -> None:
    context = build()(Tokens(values(), torch.zeros(2, TOKENS, dtype=torch.bool)))
    assert torch.isfinite(context.readout["action"]).all() and torch.isfinite(context.tokens).all()


def test_more_steps_than_in_training_have_positions() -> None:
    shorter = tuple(replace(group, tokens=group.tokens // 2, steps=1) if group.steps else group for group in GROUPS)
    trained, longer = SMALL.build(shorter, width=WIDTH), build()
    longer.load_state_dict(trained.state_dict())
    with pytest.raises(KinemaError, match="2 steps are observed, max_horizon is 1"):
        replace(SMALL, max_horizon=1).build(GROUPS, width=WIDTH)


def test_the_action_must_be_read_out() -> None:
    for readouts in ({"value": 1}, {"action": 0}, {"action": 1, "value": 0}):
        with pytest.raises(KinemaError, match="expected 'action', and each of at least 1 token"):
            replace(SMALL, readouts=readouts).build(GROUPS, width=WIDTH)


@pytest.mark.parametrize(("width", "heads", "millions"), [(384, 6, 21.3), (768, 12, 85.1)])
def test_layers_are_those_of_vision_transformers(width: int, heads: int, millions: float) -> None:
    """12 layers of attention 4 (w^2) + 4 w and MLP 8 w^2 + 5 w, normalised twice: of ViT-S and ViT-B."""
    with torch.device("meta"):
        trunk = Blockwise(layers=12, heads=heads, hidden=4 * width).build(GROUPS, width=width)
    count = sum(p.numel() for p in trunk.layers.parameters())
    assert count == 12 * (12 * width**2 + 13 * width) == pytest.approx(millions * 1e6, rel=0.002)
