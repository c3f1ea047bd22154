"""The same two seconds of a hand's path, sent to a simulated arm in every action space, end at the same place."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from kinema.actions.control import JointState, Reference, computed_torque
from kinema.actions.convert import convert
from kinema.actions.end_effector import HAND, EndEffectorDelta, EndEffectorPose, EndEffectorRelative
from kinema.actions.poses import pose, to_vector
from kinema.actions.rotations import distance_rad, exp
from kinema.actions.spaces import JointPosition, JointTorque, JointVelocity, Space
from kinema.core.errors import KinemaError

pytest.importorskip("mink")

import mujoco

from kinema.sim.arm import MujocoArm, panda

RATE_HZ, SERVO_HZ, SECONDS = 20.0, 1000.0, 2.0
PERIODS = round(SERVO_HZ / RATE_HZ)
START_RAD = np.array([0, -np.pi / 4, 0, -3 * np.pi / 4, 0, np.pi / 2, np.pi / 4 + 1.0])  # the wrist turned by 1 rad
START = JointState(joints_rad=START_RAD, velocity_rad_s=np.zeros(7))
POSE = EndEffectorPose(rate_hz=RATE_HZ, frame="world")
WORLD_DELTA = EndEffectorDelta(rate_hz=RATE_HZ, frame="world")
HAND_DELTA = EndEffectorDelta(rate_hz=RATE_HZ, frame=HAND)


@pytest.fixture(scope="module")
def arm() -> MujocoArm:
    made = panda()
    made.model.opt.timestep = 1 / SERVO_HZ
    return made


def path(arm: MujocoArm, rate_hz: float) -> np.ndarray:
    """Return the target poses (H, 4, 4): 20 cm aside, 10 cm ahead, 5 cm down, a turn, from rest to rest."""
    start, made = arm.forward(START_RAD), []
    for time_s in np.arange(1, round(SECONDS * rate_hz) + 1) / rate_hz:
        u = time_s / SECONDS
        way = u**3 * (10 - 15 * u + 6 * u**2)
        turn = exp(way * np.array([0.2, -0.1, 0.5]))
        made.append(pose(start[:3, 3] + way * np.array([0.1, 0.2, -0.05]), turn @ start[:3, :3]))
    return np.stack(made)


def hold(arm: MujocoArm, targets: np.ndarray) -> np.ndarray:
    """Return where the hand is (4, 4) after a servo followed joint targets (H, 7), straight from each to the next."""
    data = mujoco.MjData(arm.model)
    data.qpos[:] = before = START_RAD
    for target in targets:
        for k in range(PERIODS):
            state = JointState(joints_rad=data.qpos.copy(), velocity_rad_s=data.qvel.copy())
            wanted = Reference(
                joints_rad=before + (k + 1) / PERIODS * (target - before), velocity_rad_s=(target - before) * RATE_HZ
            )
            data.qfrc_applied[:] = computed_torque(arm, state, wanted, kp=900.0)
            mujoco.mj_step(arm.model, data)
        before = target
    return arm.forward(data.qpos)


def miss(reached: np.ndarray, wanted: np.ndarray) -> tuple[float, float]:
    return float(np.linalg.norm(reached[:3, 3] - wanted[:3, 3])), float(distance_rad(reached[:3, :3], wanted[:3, :3]))


@pytest.mark.parametrize(
    "space",
    [
        JointPosition(rate_hz=RATE_HZ, joints=tuple(f"joint{i}" for i in range(1, 8))),
        JointVelocity(rate_hz=RATE_HZ, joints=tuple(f"joint{i}" for i in range(1, 8))),
        POSE,
        EndEffectorRelative(rate_hz=RATE_HZ),
        WORLD_DELTA,
        HAND_DELTA,
    ],
    ids=lambda space: f"{space.kind} {space.layout[2]}",
)
def test_every_space_ends_at_the_same_place(arm: MujocoArm, space: Space) -> None:
    targets = path(arm, RATE_HZ)
    sent = convert(to_vector(targets), POSE, space, start=START, arm=arm)
    received = convert(sent, space, JointPosition(rate_hz=RATE_HZ, joints=arm.joints), start=START, arm=arm)
    far_m, far_rad = miss(hold(arm, received), targets[-1])
    assert far_m <= 2e-3
    assert far_rad <= 0.01


def test_torques_alone_end_there_too(arm: MujocoArm) -> None:
    targets, coarse = path(arm, RATE_HZ), JointPosition(rate_hz=RATE_HZ, joints=arm.joints)
    joints = np.concatenate([START_RAD[None], convert(to_vector(targets), POSE, coarse, start=START, arm=arm)])
    spline = CubicSpline(np.arange(len(joints)) / RATE_HZ, joints, bc_type="clamped")
    fine = spline(np.arange(1, round(SECONDS * SERVO_HZ) + 1) / SERVO_HZ)
    source = JointPosition(rate_hz=SERVO_HZ, joints=arm.joints)
    space = JointTorque(rate_hz=SERVO_HZ, joints=arm.joints)
    data = mujoco.MjData(arm.model)
    data.qpos[:] = START_RAD
    for torque in convert(fine, source, space, start=START, arm=arm):
        data.qfrc_applied[:] = torque
        mujoco.mj_step(arm.model, data)
    far_m, far_rad = miss(arm.forward(data.qpos), targets[-1])
    assert far_m <= 2e-3
    assert far_rad <= 0.01


def test_velocities_are_summed_with_the_servos_own_period(arm: MujocoArm) -> None:
    targets = path(arm, RATE_HZ)
    space = JointVelocity(rate_hz=RATE_HZ, joints=arm.joints)
    velocity = np.repeat(convert(to_vector(targets), POSE, space, start=START, arm=arm), PERIODS, axis=0)
    ends = {dt_s: arm.forward(START_RAD + dt_s * velocity.sum(axis=0)) for dt_s in (1 / SERVO_HZ, 2 / SERVO_HZ)}
    assert miss(ends[1 / SERVO_HZ], targets[-1])[0] <= 2e-3
    assert miss(ends[2 / SERVO_HZ], targets[-1])[0] > 0.05


@pytest.mark.parametrize(("sent_as", "read_as"), [(HAND_DELTA, WORLD_DELTA), (WORLD_DELTA, HAND_DELTA)])
def test_the_wrong_frame_misses_by_more_than_5_cm(
    arm: MujocoArm, sent_as: EndEffectorDelta, read_as: EndEffectorDelta
) -> None:
    targets = path(arm, RATE_HZ)
    sent = convert(to_vector(targets), POSE, sent_as, start=START, arm=arm)
    reached = read_as.to_poses(sent, arm.forward(START_RAD))
    assert miss(reached[-1], targets[-1])[0] > 0.05
    assert miss(sent_as.to_poses(sent, arm.forward(START_RAD))[-1], targets[-1])[0] < 1e-9


def test_a_delta_at_twice_the_rate_is_refused_and_would_go_twice_as_far(arm: MujocoArm) -> None:
    targets = path(arm, RATE_HZ)
    sent = convert(to_vector(targets), POSE, WORLD_DELTA, start=START, arm=arm)
    with pytest.raises(KinemaError, match="end-effector delta pose at 40 Hz to end-effector pose at 20 Hz"):
        convert(sent, EndEffectorDelta(rate_hz=2 * RATE_HZ, frame="world"), POSE, start=START, arm=arm)
    twice = WORLD_DELTA.to_poses(np.repeat(sent, 2, axis=0), arm.forward(START_RAD))
    assert miss(twice[-1], targets[-1])[0] > 0.05
