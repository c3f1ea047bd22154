"""What fits, what does not, and what the message says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kinema.core.errors import SpecMismatch
from kinema.core.spec import (
    ActionSpec,
    Camera,
    ObservationSpec,
    RobotSpec,
    Vector,
    check_compatible,
    check_observation,
)

OBSERVATION = ObservationSpec(
    cameras=(Camera(name="front", height=4, width=6), Camera(name="wrist", height=4, width=4)),
    vectors=(Vector(name="hand", components=("x", "y"), units=("m", "m"), frame="world"),),
    instruction=True,
)
ROBOT = RobotSpec(
    embodiment="arm",
    rate_hz=10.0,
    observation=OBSERVATION,
    action=ActionSpec(
        components=("dx", "grip"),
        units=("m", "1"),
        frame="world",
        kind="delta",
        integrator="controller",
        low=(-1.0, -1.0),
        high=(1.0, 1.0),
        gripper="+1 closes, -1 opens",
    ),
)


def observation(batch: int = 2, steps: int = 1) -> dict[str, Any]:
    return {
        "image.front": np.zeros((batch, steps, 4, 6, 3), np.uint8),
        "image.wrist": np.zeros((batch, steps, 4, 4, 3), np.uint8),
        "vector.hand": np.zeros((batch, steps, 2), np.float32),
        "instruction": ["push"] * batch,
    }


def refusal(have: RobotSpec, want: RobotSpec = ROBOT) -> str:
    with pytest.raises(SpecMismatch) as caught:
        check_compatible(have, want, have_name="the data", want_name="the policy")
    return str(caught.value)


def test_keys_shapes_and_selection() -> None:
    assert OBSERVATION.keys == ("image.front", "image.wrist", "vector.hand", "instruction")
    assert OBSERVATION.shape("image.front") == (4, 6, 3) and OBSERVATION.shape("vector.hand") == (2,)
    assert OBSERVATION.select(("image.wrist", "instruction")).keys == ("image.wrist", "instruction")
    assert ROBOT.action.width == 2
    with pytest.raises(SpecMismatch, match=r"no observation 'image\.wirst'; did you mean 'image\.wrist'\?; observed: "):
        OBSERVATION.select(("image.wirst",))
    with pytest.raises(SpecMismatch, match=r"no observation 'vector\.hnd'; did you mean 'vector\.hand'"):
        OBSERVATION.shape("vector.hnd")


def test_lengths_must_agree() -> None:
    with pytest.raises(SpecMismatch, match="vector 'v': 2 components but 1 units"):
        Vector(name="v", components=("a", "b"), units=("m",), frame="world")
    with pytest.raises(SpecMismatch, match="2 components but 1 entries in low"):
        replace(ROBOT.action, low=(0.0,))


def test_more_observations_are_fine() -> None:
    less = replace(ROBOT, observation=replace(OBSERVATION, cameras=OBSERVATION.cameras[:1], instruction=False))
    check_compatible(ROBOT, less, have_name="a", want_name="b")
    check_compatible(ROBOT, ROBOT, have_name="a", want_name="b")


def test_every_difference_is_named_at_once() -> None:
    camera = Camera(name="frnt", height=4, width=6)
    vector = replace(OBSERVATION.vectors[0], frame="base", units=("m", "cm"))
    message = refusal(
        replace(
            ROBOT,
            embodiment="leg",
            rate_hz=20.0,
            observation=ObservationSpec(cameras=(camera, OBSERVATION.cameras[1]), vectors=(vector,)),
        )
    )
    assert message.splitlines() == [
        "the data does not fit the policy:",
        "  embodiment: 'leg', expected 'arm'",
        "  rate_hz: 20.0, expected 10.0",
        "  no camera 'front'; did you mean 'frnt'? offered: frnt, wrist",
        "  vector 'hand' units: ('m', 'cm'), expected ('m', 'm')",
        "  vector 'hand' frame: 'base', expected 'world'",
        "  no instruction, but one is needed",
    ]


def test_action_conventions_are_part_of_the_fit() -> None:
    action = replace(ROBOT.action, gripper="+1 opens, -1 closes", units=("cm", "1"), low=(-2.0, -1.0))
    message = refusal(replace(ROBOT, action=action))
    assert "action gripper: '+1 opens, -1 closes', expected '+1 closes, -1 opens'" in message
    assert "action units: ('cm', '1'), expected ('m', '1')" in message and "action low" in message
    assert "no camera 'front' offered: none" in refusal(replace(ROBOT, observation=ObservationSpec(instruction=True)))


def test_long_lists_of_differences_end() -> None:
    many = tuple(Camera(name=f"camera{i}", height=1, width=1) for i in range(9))
    message = refusal(ROBOT, replace(ROBOT, observation=replace(OBSERVATION, cameras=many)))
    assert message.endswith("... and 2 more") and len(message.splitlines()) == 9


def test_camera_size_is_part_of_the_fit() -> None:
    small = replace(OBSERVATION, cameras=(Camera(name="front", height=2, width=6), OBSERVATION.cameras[1]))
    assert "camera 'front' height: 2, expected 4" in refusal(replace(ROBOT, observation=small))


def test_a_fitting_observation_passes() -> None:
    check_observation(observation(), OBSERVATION, batch=2, obs_horizon=1)
    check_observation(observation(1, 3), OBSERVATION, batch=1, obs_horizon=3)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "image.frnt",
            0,
            r"unexpected observation 'image\.frnt'; did you mean 'image\.front'\?; expected: image\.front",
        ),
        ("image.front", None, r"observation 'image\.front' is missing; given: image\.wrist"),
        (
            "image.front",
            np.zeros((2, 1, 3, 4, 6), np.uint8),
            r"image\.front: shape \(2, 1, 3, 4, 6\) uint8, expected \(2, 1, 4",
        ),
        ("image.front", np.zeros((2, 1, 4, 6, 3), np.float32), r"float32, expected \(2, 1, 4, 6, 3\) uint8"),
        ("image.front", np.zeros((2, 2, 4, 6, 3), np.uint8), r"shape \(2, 2, 4, 6, 3\)"),
        ("vector.hand", np.zeros((2, 1, 2)), r"vector\.hand: shape \(2, 1, 2\) float64, expected \(2, 1, 2\) float32"),
        ("vector.hand", np.full((2, 1, 2), np.nan, np.float32), r"vector\.hand: not finite"),
        ("instruction", ["push"], "instruction: expected 2 non-empty texts, got "),
        ("instruction", ["push", "  "], "instruction: expected 2 non-empty texts"),
        ("instruction", ["push", 3], "instruction: expected 2 non-empty texts"),
    ],
)
def test_misfits_are_named(key: str, value: Any, message: str) -> None:
    given = {**observation(), key: value}
    if value is None:
        del given[key]
    with pytest.raises(SpecMismatch, match=message):
        check_observation(given, OBSERVATION, batch=2, obs_horizon=1)
