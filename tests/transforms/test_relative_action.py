"""Relative end-effector actions inside a policy's list of transforms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from kinema.actions import poses
from kinema.core.errors import KinemaError, SpecMismatch
from kinema.core.spec import ActionSpec, ObservationSpec, RobotSpec, Vector
from kinema.core.transform import Chain
from kinema.transforms.normalise import Normalise
from kinema.transforms.relative_action import RelativeAction

RELATIVE = RelativeAction(pose="hand")


def random_poses(rng: np.random.Generator, *shape: int) -> np.ndarray:
    count = int(np.prod(shape))
    made = poses.pose(rng.uniform(-0.5, 0.5, (count, 3)), Rotation.random(count, random_state=rng).as_matrix())
    return made.reshape(*shape, 4, 4)


def sample_of(observed: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    width = np.linspace(0, 0.08, targets.shape[0] * targets.shape[1]).reshape(*targets.shape[:2], 1)
    action = np.concatenate([poses.to_vector(targets), width], axis=-1).astype(np.float32)
    return {"vector.hand": poses.to_vector(observed).astype(np.float32), "action": action, "instruction": ["go"] * 5}


@pytest.fixture
def sample() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return sample_of(random_poses(rng, 5, 2), random_poses(rng, 5, 16))


def test_the_base_is_the_newest_observed_pose_and_the_gripper_stays(sample: dict[str, Any]) -> None:
    changed, base = RELATIVE.forward(sample)
    np.testing.assert_allclose(poses.to_vector(base), sample["vector.hand"][:, -1], atol=1e-6)
    identity = np.broadcast_to([0, 0, 0, 1, 0, 0, 0, 1, 0], (5, 9))
    np.testing.assert_allclose(changed["vector.hand"][:, -1], identity, atol=1e-6)
    first = np.linalg.inv(base[0]) @ poses.from_vector(sample["action"][0, 3, :9])
    np.testing.assert_allclose(changed["action"][0, 3, :9], poses.to_vector(first), atol=1e-6)
    np.testing.assert_array_equal(changed["action"][..., 9], sample["action"][..., 9])
    assert changed["action"].dtype == changed["vector.hand"].dtype == np.float32
    np.testing.assert_allclose(RELATIVE.inverse(changed["action"], base), sample["action"], atol=1e-6)


def test_the_network_sees_no_world() -> None:
    rng = np.random.default_rng(1)
    observed, targets, move = random_poses(rng, 5, 2), random_poses(rng, 5, 16), random_poses(rng, 1)[0]
    here, _ = RELATIVE.forward(sample_of(observed, targets))
    moved = sample_of(move @ observed, move @ targets)
    there, memo = RELATIVE.forward(moved)
    for key in ("vector.hand", "action"):
        np.testing.assert_allclose(there[key], here[key], atol=2e-6)
    np.testing.assert_allclose(RELATIVE.inverse(here["action"], memo), moved["action"], atol=2e-6)


def test_a_prediction_that_is_no_rotation_becomes_one(sample: dict[str, Any]) -> None:
    changed, memo = RELATIVE.forward(sample)
    noisy = changed["action"] + np.random.default_rng(2).normal(scale=0.2, size=changed["action"].shape)
    targets = RELATIVE.inverse(noisy.astype(np.float32), memo)[..., :9]
    np.testing.assert_allclose(poses.to_vector(poses.from_vector(targets)), targets, atol=1e-6)


def test_with_normalisation_fitted_on_what_comes_out(sample: dict[str, Any]) -> None:
    changed, _ = RELATIVE.forward(sample)
    rows = changed["action"].reshape(-1, 10).astype(np.float64)
    normalise = Normalise(modes={"action": "mean_std"}).fit({"action": {"mean": rows.mean(0), "std": rows.std(0)}})
    chain = Chain((RELATIVE, normalise))
    scaled, memo = chain.forward(sample)
    np.testing.assert_allclose(scaled["action"].reshape(-1, 10).std(0), 1.0, atol=1e-4)
    np.testing.assert_allclose(chain.inverse(scaled["action"], memo), sample["action"], atol=2e-6)


def test_what_does_not_fit_is_named(sample: dict[str, Any]) -> None:
    with pytest.raises(KinemaError, match=r"'vector\.hnd' is missing from the sample; did you mean 'vector\.hand'"):
        RelativeAction(pose="hnd").forward(sample)
    with pytest.raises(KinemaError, match=r"'action' has shape \(5, 16, 7\), expected \(B, H, 9 or more\)"):
        RELATIVE.forward({**sample, "action": sample["action"][..., :7]})
    with pytest.raises(KinemaError, match=r"components 3 to 8 of 'action' are not the first two columns"):
        RELATIVE.forward({**sample, "action": sample["action"][..., ::-1]})
    with pytest.raises(KinemaError, match=r"'vector\.hand' has shape \(5, 2, 10\), expected \(B, T, 9\)"):
        RELATIVE.forward({**sample, "vector.hand": sample["action"][:, :2]})


def test_pose_and_action_must_mean_the_same() -> None:
    hand = Vector(name="hand", components=poses.COMPONENTS, units=poses.UNITS, frame="world", rotation=poses.LAYOUT)
    action = ActionSpec(
        components=(*poses.COMPONENTS, "width"), units=(*poses.UNITS, "m"), frame="world", kind="end-effector pose",
        integrator="controller", low=(-1.0,) * 10, high=(1.0,) * 10, rotation=poses.LAYOUT,
    )  # fmt: skip
    robot = RobotSpec(embodiment="arm", rate_hz=10.0, observation=ObservationSpec(vectors=(hand,)), action=action)
    RELATIVE.check(robot)
    with pytest.raises(SpecMismatch, match=r"does not go with 'vector\.hand', .*\nframe 'base', not 'world'"):
        RELATIVE.check(replace(robot, action=replace(action, frame="base")))
    with pytest.raises(SpecMismatch, match=r"component 0: \['x', 'mm'\], not \['x', 'm'\]"):
        RELATIVE.check(replace(robot, action=replace(action, units=("mm", *action.units[1:]))))
