"""Inverse kinematics over the whole workspace of a 7-joint arm; a quick part of it is in tests/sim/test_arm.py."""

from __future__ import annotations

import numpy as np
import pytest

from kinema.actions.inverse_kinematics import InverseKinematics, Unreached
from kinema.actions.kinematics import check_limits
from kinema.actions.rotations import distance_rad

pytest.importorskip("mink")

from kinema.sim.arm import panda

READY = np.array([0, -np.pi / 4, 0, -3 * np.pi / 4, 0, np.pi / 2, np.pi / 4])


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_99_of_100_reachable_poses_are_solved_and_no_limit_is_crossed(seed: int) -> None:
    arm, rng, solver, solved = panda(), np.random.default_rng(seed), InverseKinematics(), 0
    for joints in rng.uniform(arm.low_rad, arm.high_rad, (1000, 7)):
        target = arm.forward(joints)
        try:
            found = solver.solve(arm, target, start_rad=READY, rng=rng)
        except Unreached as error:
            found = error.closest
        check_limits(arm, found.joints_rad[None], "found")
        reached = arm.forward(found.joints_rad)
        near = np.linalg.norm(reached[:3, 3] - target[:3, 3]) <= 1e-4
        solved += near and distance_rad(reached[:3, :3], target[:3, :3]) <= 1e-3
    assert solved >= 990
