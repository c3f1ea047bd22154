"""The concatenation is what is filled, step after step."""

from __future__ import annotations

import pytest
import torch

from kinema.core.errors import KinemaError
from kinema.nets.base import Group, Tokens
from kinema.nets.trunks.concatenate import Concatenate

GROUPS = (
    Group(name="told", tokens=1),
    Group(name="state", tokens=2, steps=2, filled=2),
    Group(name="seen", tokens=4, steps=2),
)
VALUES = torch.arange(21.0).view(1, 7, 3)
PRESENT = Tokens.present(VALUES)


def test_one_vector_of_all_steps() -> None:
    trunk = Concatenate().build(GROUPS, width=3)
    context = trunk(PRESENT)
    told, first, second = [0, 1, 2], [3, 4, 9, 10, 11, 12, 13, 14], [6, 7, 15, 16, 17, 18, 19, 20]
    assert context.readout["action"].tolist() == [[[*told, *first, *second]]] and trunk.context_width == 19
    assert torch.equal(context.tokens, context.readout["action"]) and context.mask.tolist() == [[True]]


def test_a_vector_of_each_step() -> None:
    trunk = Concatenate(by_step=True).build(GROUPS, width=3)
    context = trunk(PRESENT)
    first, second = [0, 1, 2, 3, 4, 9, 10, 11, 12, 13, 14], [0, 1, 2, 6, 7, 15, 16, 17, 18, 19, 20]
    assert context.readout["action"].tolist() == [[first, second]] and trunk.context_width == 11


def test_absent_tokens_are_zero() -> None:
    mask = torch.ones(1, 7, dtype=torch.bool)
    mask[0, 0] = False
    assert Concatenate().build(GROUPS, width=3)(Tokens(VALUES, mask)).tokens[0, 0, :4].tolist() == [0, 0, 0, 3]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(KinemaError, match="heads that give the trunk a token of their own need another trunk"):
        Concatenate().build((Group(name="", tokens=1), *GROUPS), width=3)
    with pytest.raises(KinemaError, match=r"concatenate by step: expected encoders .* got none"):
        Concatenate(by_step=True).build(GROUPS[:1], width=3)
