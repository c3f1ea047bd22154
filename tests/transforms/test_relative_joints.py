"""Joint targets relative to one state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kinema.core.errors import KinemaError, SpecMismatch
from kinema.core.spec import ActionSpec, ObservationSpec, RobotSpec, Vector
from kinema.core.transform import Chain
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


def robot(**changed: Any) -> RobotSpec:
    """A robot whose state and action agree, but for what is changed of the action."""
    meaning = {"components": ("shoulder", "elbow", "finger"), "units": ("rad", "rad", "m"), "frame": "joints"}
    state = Vector(name="joints", **meaning)
    rest = {"kind": "joint position", "integrator": "controller", "low": (-1.0,) * 3, "high": (1.0,) * 3}
    action = ActionSpec(**{**meaning, **rest, **changed})
    return RobotSpec(embodiment="arm", rate_hz=10.0, observation=ObservationSpec(vectors=(state,)), action=action)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"components": ("elbow", "shoulder", "finger")},
            r"component 0: \['elbow', 'rad'\], not \['shoulder', 'rad'\]",
        ),
        ({"units": ("rad", "deg", "m")}, r"component 1: \['elbow', 'deg'\], not \['elbow', 'rad'\]"),
        ({"frame": "base"}, "frame 'base', not 'joints'"),
    ],
)
def test_state_and_action_must_mean_the_same(changed: dict[str, Any], message: str) -> None:
    Chain((RELATIVE,)).check(robot())
    Chain((RELATIVE,)).check(robot(units=("rad", "rad", "1")))  # the last is kept, and never subtracted
    with pytest.raises(SpecMismatch, match=message):
        Chain((RELATIVE,)).check(robot(**changed))
    with pytest.raises(SpecMismatch, match=r"component 2: \['finger', '1'\], not \['finger', 'm'\]"):
        RelativeJoints(state="joints").check(robot(units=("rad", "rad", "1")))
    with pytest.raises(SpecMismatch, match=r"no observation 'vector\.jonts'; did you mean"):
        RelativeJoints(state="jonts").check(robot())
