"""Kinematics of planar arms, by hand; a whole arm is in tests/sim/test_arm.py."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from kinema.actions.kinematics import Arm, damped_step, null_space, pose_error
from kinema.actions.poses import pose
from kinema.actions.rotations import exp
from kinema.core.errors import KinemaError

Planar = Callable[..., Arm]


def planar_pose(x: float, y: float, yaw: float) -> np.ndarray:
    return pose(np.array([x, y, 0.0]), exp(np.array([0.0, 0.0, yaw])))


def test_where_two_links_of_a_metre_are(planar: Planar) -> None:
    arm = planar(1.0, 1.0)
    for joints, hand in {
        (0.0, 0.0): (2, 0, 0.0),
        (np.pi / 2, 0.0): (0, 2, np.pi / 2),
        (0.0, np.pi / 2): (1, 1, np.pi / 2),
    }.items():
        np.testing.assert_allclose(arm.forward(np.array(joints)), planar_pose(*hand), atol=1e-12)
    expected = np.zeros((6, 2))
    expected[[0, 1, 5]] = [[-1, -1], [1, 0], [1, 1]]
    np.testing.assert_allclose(arm.jacobian(np.array([0.0, np.pi / 2])), expected, atol=1e-12)


def test_the_error_is_a_rotation_vector_in_the_fixed_frame_not_a_difference_of_angles() -> None:
    now, turn = exp(np.array([0.3, -1.0, 0.4])), np.array([0.1, 0.7, -0.2])
    error = pose_error(pose(np.array([1.0, 2, 3]), now), pose(np.array([1.5, 2, 2]), exp(turn) @ now))
    np.testing.assert_allclose(error, [0.5, 0, -1, *turn], atol=1e-12)


def test_a_damped_step_is_never_longer_than_its_bound() -> None:
    rng, ratios = np.random.default_rng(0), []
    for _ in range(2000):
        jacobian = rng.normal(size=(6, 7)) * 10 ** rng.uniform(-3, 1)
        error, damping = rng.normal(size=6), 10 ** rng.uniform(-3, 1)
        ratios.append(np.linalg.norm(damped_step(jacobian, error, damping)) / (np.linalg.norm(error) / (2 * damping)))
    assert max(ratios) <= 1 + 1e-12
    assert max(ratios) > 0.9
    # the bound is met where a singular value equals the damping
    assert damped_step(np.array([[0.1]]), np.array([3.0]), 0.1) == pytest.approx(3.0 / (2 * 0.1))


def test_a_damped_step_by_hand() -> None:
    # J = diag(2, 0), λ = 1: (2 / (4 + 1), 0)
    np.testing.assert_allclose(damped_step(np.diag([2.0, 0.0]), np.array([1.0, 1.0]), 1.0), [0.4, 0.0])


def test_null_space_motion_by_hand(planar: Planar) -> None:
    moved = null_space(np.array([[1.0, 1.0, 0.0]]), np.array([1.0, 0.0, 5.0]))
    np.testing.assert_allclose(moved, [0.5, -0.5, 5.0], atol=1e-12)


def test_without_damping_there_is_no_step() -> None:
    with pytest.raises(KinemaError, match="damping 0: expected above 0"):
        damped_step(np.eye(2), np.ones(2), 0)
