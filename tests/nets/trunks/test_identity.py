"""The identity hands on what it gets."""

from __future__ import annotations

import torch

from kinema.nets.base import Group, Tokens
from kinema.nets.trunks.identity import Identity


def test_tokens_are_handed_on_and_absent_ones_are_zero() -> None:
    trunk = Identity().build([Group(name="seen", tokens=3, placed=True)], width=2)
    values = torch.arange(6.0).view(1, 3, 2) + 1
    mask, positions = torch.tensor([[True, False, True]]), torch.ones(3, 2)
    context = trunk(Tokens(values, mask, positions))
    expected = torch.tensor([[[1.0, 2.0], [0.0, 0.0], [5.0, 6.0]]])
    assert torch.equal(context.readout["action"], expected) and torch.equal(context.tokens, expected)
    assert context.positions is positions and context.mask is mask
    assert not list(trunk.parameters())
