"""Joint targets relative to one state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kinema.core.errors import KinemaError
from kinema.transforms.relative_joints import RelativeJoints

STATE = np.array([[[9.0, 9.0, 9.0], [1.0, 2.0, 0.5]]], np.float32)
ACTION = np.array([[[1.5, 2.0, 1.0], [2.0, 1.0, 0.0]]], np.float32)
SAMPLE = {"vector.joints": STATE, "action": ACTION}
RELATIVE = RelativeJoints(state="joints", keep=(-1,))


def test_by_hand() -> None:
    changed, base = RELATIVE.forward(SAMPLE)
    assert changed["action"].tolist() == [[[0.5, 0.0, 1.0], [1.0, -1.0, 0.0]]], "from the newest state, both steps"
    assert changed["vector.joints"] is STATE, "the policy still sees where its joints are"
    assert np.array_equal(RELATIVE.inverse(changed["action"], base), ACTION)
    assert RelativeJoints(state="joints").forward(SAMPLE)[0]["action"][0, 0].tolist() == [0.5, 0.0, 0.5]


def test_equals_the_published_rule() -> None:
    """openpi subtracts state from every step of the chunk where its mask, True for six joints and not for grippers."""
    rng = np.random.default_rng(0)
    state, action = rng.normal(size=(4, 14)), rng.normal(size=(4, 50, 14))
    mask = np.array([True] * 6 + [False] + [True] * 6 + [False])
    expected = action - np.where(mask, state, 0.0)[:, None]
    sample = {"vector.joints": state[:, None].astype(np.float32), "action": action.astype(np.float32)}
    changed, _ = RelativeJoints(state="joints", keep=(6, 13)).forward(sample)
    np.testing.assert_allclose(changed["action"], expected, atol=1e-6)


def test_the_same_motion_elsewhere_is_the_same() -> None:
    moved = {key: value + np.array([0.25, -0.5, 0.0], np.float32) for key, value in SAMPLE.items()}
    here, there = RELATIVE.forward(SAMPLE), RELATIVE.forward(moved)
    assert np.array_equal(here[0]["action"], there[0]["action"])
    assert np.array_equal(RELATIVE.inverse(here[0]["action"], there[1]), moved["action"])


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: RelativeJoints(state="jonts").forward(SAMPLE), r"'vector\.jonts' is missing .*did you mean"),
        (lambda: RelativeJoints(state="joints", keep=(3,)).forward(SAMPLE), r"components \[3\] are to be kept"),
        (lambda: RELATIVE.forward({**SAMPLE, "action": ACTION[..., :2]}), r"\(1, 2, 2\), expected \(B, H, 3\)"),
        (lambda: RELATIVE.inverse(ACTION[..., :2], np.zeros((1, 1, 3))), r"\(1, 2, 2\), expected \(B, H, 3\)"),
    ],
)
def test_refusals(act: Any, message: str) -> None:
    with pytest.raises(KinemaError, match=message):
        act()
