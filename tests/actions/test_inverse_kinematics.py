"""Inverse kinematics of planar arms, by hand; a whole arm is in tests/sim/test_arm.py."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from kinema.actions.inverse_kinematics import InverseKinematics, Solution, Unreached, _random_joints
from kinema.actions.kinematics import Arm, check_limits, pose_error
from kinema.actions.poses import pose
from kinema.actions.rotations import exp
from kinema.core.errors import KinemaError

Planar = Callable[..., Arm]


def planar_pose(x: float, y: float, yaw: float) -> np.ndarray:
    return pose(np.array([x, y, 0.0]), exp(np.array([0.0, 0.0, yaw])))


@pytest.mark.parametrize(("yaw", "joints"), [(np.pi / 2, (0, np.pi / 2)), (0.0, (np.pi / 2, -np.pi / 2))])
def test_the_yaw_of_the_target_chooses_the_elbow(planar: Planar, yaw: float, joints: tuple[float, float]) -> None:
    solver = InverseKinematics(position_m=1e-9, rotation_rad=1e-9, restarts=0)
    found = solver.solve(planar(1.0, 1.0), planar_pose(1, 1, yaw), start_rad=np.array(joints) + [0.3, -0.2])
    np.testing.assert_allclose(found.joints_rad, joints, atol=1e-8)
    assert found.position_error_m <= 1e-9
    assert found.rotation_error_rad <= 1e-9


def test_beyond_reach_is_an_error_that_carries_the_residual(planar: Planar) -> None:
    solver, rng = InverseKinematics(), np.random.default_rng(0)
    with pytest.raises(Unreached, match=r"not reached \(unreachable\).*0\.3 m and .* rad away") as caught:
        solver.solve(planar(1.0, 1.0), planar_pose(2.3, 0, 0), start_rad=np.array([0.5, -1.0]), rng=rng)
    assert isinstance(caught.value, KinemaError)
    closest = caught.value.closest
    assert closest.position_error_m == pytest.approx(0.3, abs=1e-3)
    np.testing.assert_allclose(closest.joints_rad, 0, atol=0.05)


def test_joints_beyond_their_limits_are_said_to_be_the_reason(planar: Planar) -> None:
    arm = planar(1.0, 1.0, limit_rad=1.2)
    with pytest.raises(Unreached, match=r"\(limit\): joints beyond their limits would reach it") as caught:
        InverseKinematics(restarts=3).solve(
            arm, planar_pose(1, 1, np.pi / 2), start_rad=np.zeros(2), rng=np.random.default_rng(0)
        )
    assert caught.value.reason == "limit"
    check_limits(arm, caught.value.closest.joints_rad[None], "closest")


def test_a_stretched_arm_does_not_see_the_way_back_and_restarts_find_it(planar: Planar) -> None:
    arm, target = planar(1.0, 1.0, 1.0), planar_pose(2, 0, 0)
    np.testing.assert_allclose(arm.jacobian(np.zeros(3)).T @ pose_error(arm.forward(np.zeros(3)), target), 0)
    with pytest.raises(Unreached, match="stuck in a singular posture, and no restarts are allowed") as caught:
        InverseKinematics(restarts=0).solve(arm, target, start_rad=np.zeros(3))
    assert caught.value.reason == "singular"
    found = InverseKinematics().solve(arm, target, start_rad=np.zeros(3), rng=np.random.default_rng(0))
    np.testing.assert_allclose(arm.forward(found.joints_rad), target, atol=2e-3)


def test_a_posture_is_preferred_in_the_null_space_only(planar: Planar) -> None:
    arm, wanted = planar(1.0, 1.0, 1.0, 1.0), np.array([0.9, -0.3, 0.5, 0.2])
    target, start = arm.forward(np.array([0.2, 0.4, 0.6, 0.1])), np.array([0.3, 0.3, 0.7, 0.0])
    solver = InverseKinematics(position_m=1e-7, rotation_rad=1e-7, restarts=0)
    free = solver.solve(arm, target, start_rad=start)
    led = solver.solve(arm, target, start_rad=start, posture_rad=wanted)
    assert np.linalg.norm(led.joints_rad - wanted) < 0.95 * np.linalg.norm(free.joints_rad - wanted)
    np.testing.assert_allclose(arm.forward(led.joints_rad), target, atol=2e-7)


def test_input_that_does_not_fit_is_named(planar: Planar) -> None:
    arm, solver = planar(1.0, 1.0, limit_rad=1.0), InverseKinematics(restarts=0)
    here = arm.forward(np.zeros(2))
    with pytest.raises(KinemaError, match=r"start, step 0: joint 'j1' at 1\.5000 rad, beyond its limits -1\.0000 to"):
        solver.solve(arm, here, start_rad=np.array([0.0, 1.5]))
    with pytest.raises(KinemaError, match=r"start of shape \(3,\), expected \(2,\) finite numbers"):
        solver.solve(arm, here, start_rad=np.zeros(3))
    with pytest.raises(KinemaError, match=r"target pose of shape \(4, 4\), expected \(4, 4\) finite numbers"):
        solver.solve(arm, here * np.nan, start_rad=np.zeros(2))
    with pytest.raises(KinemaError, match="matrix that is no rotation"):
        solver.solve(arm, 2 * here, start_rad=np.zeros(2))
    with pytest.raises(KinemaError, match="restarts need rng"):
        InverseKinematics().solve(arm, here, start_rad=np.zeros(2))
    with pytest.raises(KinemaError, match="tolerances, damping and steps must be above 0"):
        InverseKinematics(damping=0.0)


def test_a_solution_says_how_far_it_is(planar: Planar) -> None:
    arm = planar(1.0, 1.0)
    found = InverseKinematics(restarts=0).solve(arm, arm.forward(np.ones(2)), start_rad=np.ones(2))
    assert isinstance(found, Solution)
    assert (found.position_error_m, found.rotation_error_rad) == (0, pytest.approx(0, abs=1e-12))


def test_restarts_are_drawn_within_limits_beyond_half_a_turn(planar: Planar) -> None:
    """Limits from 4 to 5 rad hold no angle within half a turn of 0."""
    arm = planar(1.0)
    arm.low_rad, arm.high_rad = np.array([4.0]), np.array([5.0])
    assert all(4 <= _random_joints(arm, np.random.default_rng(i))[0] <= 5 for i in range(20))
    arm.high_rad = np.array([np.inf])
    assert all(4 <= _random_joints(arm, np.random.default_rng(i))[0] <= 4 + 2 * np.pi for i in range(20))
    arm.low_rad = np.array([-np.inf])
    assert all(-np.pi <= _random_joints(arm, np.random.default_rng(i))[0] <= np.pi for i in range(20))
