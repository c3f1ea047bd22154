"""Action spaces of planar arms, by hand and there and back; a simulated arm is in tests/sim/test_action_spaces.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kinema.actions.control import DynamicArm, JointState
from kinema.actions.convert import convert, space_of
from kinema.actions.end_effector import (
    CHUNK_START,
    HAND,
    EndEffectorDelta,
    EndEffectorPose,
    EndEffectorRelative,
    EndEffectorSpace,
)
from kinema.actions.gripper import Gripper
from kinema.actions.inverse_kinematics import Unreached
from kinema.actions.kinematics import Arm
from kinema.actions.poses import pose
from kinema.actions.rotations import exp
from kinema.actions.spaces import JointPosition, JointTorque, JointVelocity, Space
from kinema.core.config import from_data, to_data
from kinema.core.errors import KinemaError, SpecMismatch
from kinema.core.spec import ObservationSpec, RobotSpec

RATE_HZ = 10.0
JOINTS = ("j0", "j1", "j2")
SPACES: dict[str, Space] = {
    "joint position": JointPosition(rate_hz=RATE_HZ, joints=JOINTS),
    "joint velocity": JointVelocity(rate_hz=RATE_HZ, joints=JOINTS),
    "pose": EndEffectorPose(rate_hz=RATE_HZ, frame="base"),
    "relative": EndEffectorRelative(rate_hz=RATE_HZ),
    "delta in the base": EndEffectorDelta(rate_hz=RATE_HZ, frame="base"),
    "delta in the hand": EndEffectorDelta(rate_hz=RATE_HZ, frame=HAND),
}
POSITION, VELOCITY = SPACES["joint position"], SPACES["joint velocity"]
TORQUE = JointTorque(rate_hz=RATE_HZ, joints=JOINTS)
START = JointState(joints_rad=np.array([0.3, 0.6, -0.4]), velocity_rad_s=np.zeros(3))


@pytest.fixture
def arm(planar: Callable[..., DynamicArm]) -> DynamicArm:
    return planar(1.0, 1.0, 0.5)


@pytest.fixture
def path() -> np.ndarray:
    """Joint targets that move every joint of 3 for 8 steps."""
    return START.joints_rad + np.linspace(0.05, 0.4, 8)[:, None] * np.array([1.0, -0.5, 1.5])


@pytest.mark.parametrize("via", SPACES, ids=str)
@pytest.mark.parametrize("to", SPACES, ids=str)
def test_every_space_and_back_to_the_same_joints(arm: Arm, path: np.ndarray, via: str, to: str) -> None:
    there = convert(path, POSITION, SPACES[via], start=START, arm=arm)
    across = convert(there, SPACES[via], SPACES[to], start=START, arm=arm)
    assert across.shape == (8, len(SPACES[to].layout[0]))
    np.testing.assert_allclose(convert(across, SPACES[to], POSITION, start=START, arm=arm), path, atol=1e-5)


def test_joint_velocities_by_hand(arm: Arm) -> None:
    path = START.joints_rad + np.array([[0.1, 0, 0], [0.1, 0.2, 0]])
    velocity = convert(path, POSITION, VELOCITY, start=START, arm=arm)
    np.testing.assert_allclose(velocity, [[1, 0, 0], [0, 2, 0]], atol=1e-12)


def test_deltas_by_hand_in_the_base_and_in_the_hand(planar: Callable[..., Arm]) -> None:
    # one link of 1 m pointing along y turns by 0.1 rad: from (0, 1) to (-sin 0.1, cos 0.1)
    arm, start = planar(1.0), JointState(joints_rad=np.array([np.pi / 2]), velocity_rad_s=np.zeros(1))
    position = JointPosition(rate_hz=RATE_HZ, joints=("j0",))
    path, s, c = np.array([[np.pi / 2 + 0.1]]), np.sin(0.1), np.cos(0.1)
    fixed = convert(path, position, SPACES["delta in the base"], start=start, arm=arm)
    along = convert(path, position, SPACES["delta in the hand"], start=start, arm=arm)
    np.testing.assert_allclose(fixed, [[-s, c - 1, 0, 0, 0, 0.1]], atol=1e-12)
    np.testing.assert_allclose(along, [[c - 1, s, 0, 0, 0, 0.1]], atol=1e-12)


def test_relative_poses_have_one_base_and_deltas_do_not(arm: Arm, path: np.ndarray) -> None:
    relative = convert(path, POSITION, SPACES["relative"], start=START, arm=arm)
    base = np.linalg.inv(arm.forward(START.joints_rad))
    for row, joints in zip(relative, path, strict=True):
        expected = base @ arm.forward(joints)
        np.testing.assert_allclose(row, [*expected[:3, 3], *expected[:3, 0], *expected[:3, 1]], atol=1e-12)


def test_moving_the_arm_with_its_world_changes_only_what_is_taken_in_a_fixed_frame(arm: Arm, path: np.ndarray) -> None:
    move = pose(np.array([0.4, -2.0, 1.0]), exp(np.array([0.3, 0.8, -0.5])))
    targets, start = np.stack([arm.forward(joints) for joints in path]), arm.forward(START.joints_rad)
    for name in ("pose", "relative", "delta in the base", "delta in the hand"):
        space = SPACES[name]
        assert isinstance(space, EndEffectorSpace)
        change = np.abs(space.from_poses(move @ targets, move @ start) - space.from_poses(targets, start)).max()
        assert (change < 1e-9) == (name in ("relative", "delta in the hand")), name


def test_torques_by_hand(planar: Callable[..., DynamicArm]) -> None:
    # 1 kg at 2 m, at rest and level: M = 4; 0.01 rad in the first 0.1 s is 0.1 rad/s, 1 rad/s²
    arm, start = planar(2.0), JointState(joints_rad=np.zeros(1), velocity_rad_s=np.zeros(1))
    spaces = JointPosition(rate_hz=RATE_HZ, joints=("j0",)), JointTorque(rate_hz=RATE_HZ, joints=("j0",))
    torque = convert(np.array([[0.01], [0.02]]), *spaces, start=start, arm=arm)
    np.testing.assert_allclose(torque, [[4 * 1 + 9.81 * 2], [9.81 * 2 * np.cos(0.01)]])


def test_what_cannot_be_converted_says_why(arm: DynamicArm, path: np.ndarray) -> None:
    def trial(source: Space, target: Space, values: np.ndarray = path) -> np.ndarray:
        return convert(values, source, target, start=START, arm=arm)

    with pytest.raises(KinemaError, match="where torques lead, only the arm or a simulation can tell"):
        trial(TORQUE, POSITION)
    with pytest.raises(KinemaError, match=r"joint position at 10 Hz to joint velocity at 20 Hz: resample it first"):
        trial(POSITION, replace(VELOCITY, rate_hz=20.0))
    with pytest.raises(KinemaError, match="end-effector pose in frame 'world', but this arm knows 'base'"):
        trial(POSITION, EndEffectorPose(rate_hz=RATE_HZ, frame="world"))
    with pytest.raises(KinemaError, match="delta pose in frame 'camera', but this arm knows 'base' and 'hand'"):
        trial(POSITION, EndEffectorDelta(rate_hz=RATE_HZ, frame="camera"))
    with pytest.raises(KinemaError, match="joint position of a, b, but the arm has j0, j1, j2"):
        trial(JointPosition(rate_hz=RATE_HZ, joints=("a", "b")), VELOCITY)
    with pytest.raises(KinemaError, match=r"joint position of shape \(8, 2\), expected \(H, 3\) finite numbers"):
        trial(POSITION, VELOCITY, path[:, :2])
    with pytest.raises(KinemaError, match="finite"):
        trial(POSITION, VELOCITY, path * np.nan)
    with pytest.raises(KinemaError, match=r"joint velocity, step 2: joint 'j0' at 3\.3000 rad, beyond its limits"):
        trial(VELOCITY, POSITION, np.tile([10.0, 0, 0], (4, 1)))
    lost = JointState(joints_rad=START.joints_rad * np.nan, velocity_rad_s=np.zeros(3))
    with pytest.raises(KinemaError, match=r"the chunk's start is \[nan nan nan\], expected 3 finite numbers"):
        convert(path, VELOCITY, POSITION, start=lost, arm=arm)
    with pytest.raises(KinemaError, match=r"rate 0 Hz, expected above 0"):
        EndEffectorRelative(rate_hz=0)
    with pytest.raises(KinemaError, match="its frame is the 'hand at the start of the chunk'"):
        EndEffectorRelative(rate_hz=1.0, frame="base")


def test_a_path_out_of_reach_says_at_which_step(arm: Arm, path: np.ndarray) -> None:
    poses = convert(path, POSITION, SPACES["pose"], start=START, arm=arm)
    poses[5:, 0] += 5.0
    with pytest.raises(Unreached, match=r"step 5 of 8 not reached .*m and .* rad away") as caught:
        convert(poses, SPACES["pose"], POSITION, start=START, arm=arm)
    assert caught.value.closest.position_error_m > 3


def test_torques_need_masses(arm: DynamicArm, path: np.ndarray) -> None:
    class Massless(Arm):
        frame, joints, low_rad, high_rad = arm.frame, arm.joints, arm.low_rad, arm.high_rad

        def forward(self, joints_rad: np.ndarray) -> np.ndarray:
            return arm.forward(joints_rad)

        def jacobian(self, joints_rad: np.ndarray) -> np.ndarray:
            return arm.jacobian(joints_rad)

        def step(self, joints_rad: np.ndarray, T_frame_hand: np.ndarray, **settings: Any) -> np.ndarray:
            return arm.step(joints_rad, T_frame_hand, **settings)

    with pytest.raises(KinemaError, match="joint torque needs an arm whose masses are known, not Massless"):
        convert(path, POSITION, TORQUE, start=START, arm=Massless())


def robot(space: Space, gripper: Gripper | None = None) -> RobotSpec:
    width = len(space.layout[0])
    action = space.spec(low=(-1.0,) * width, high=(1.0,) * width, gripper=gripper)
    return RobotSpec(embodiment="planar", rate_hz=RATE_HZ, observation=ObservationSpec(), action=action)


@pytest.mark.parametrize("space", [*SPACES.values(), TORQUE], ids=str)
@pytest.mark.parametrize("gripper", [None, Gripper(open=0.0, closed=0.08, unit="m")], ids=["alone", "with gripper"])
def test_a_spec_says_all_of_a_space(space: Space, gripper: Gripper | None) -> None:
    made = robot(space, gripper)
    assert space_of(made) == space
    assert from_data(to_data(space)) == space
    if gripper:
        assert (made.action.components[-1], made.action.units[-1]) == ("gripper", "m")
        assert (made.action.low[-1], made.action.high[-1]) == (0.0, 0.08)
        assert made.action.gripper == "0.08 m closed, 0 m open"


def test_specs_that_mean_something_else_are_refused() -> None:
    delta = robot(SPACES["delta in the base"])
    for change, message in {
        "units": r"units: \('cm', .*, expected \('m',",
        "rotation": "rotation: 'Euler xyz', expected 'rotation vector'",
        "integrator": "integrator: 'robosuite OSC_POSE', expected 'controller, from the last commanded pose'",
    }.items():
        value = {"units": ("cm",) * 3 + ("rad",) * 3, "rotation": "Euler xyz", "integrator": "robosuite OSC_POSE"}
        with pytest.raises(SpecMismatch, match=message):
            space_of(replace(delta, action=replace(delta.action, **{change: value[change]})))
    with pytest.raises(KinemaError, match="unknown kind of action 'joint positions'; did you mean 'joint position'"):
        space_of(replace(delta, action=replace(delta.action, kind="joint positions")))
    gripper = Gripper(open=0.0, closed=0.08, unit="m")
    held = robot(POSITION, gripper).action
    with pytest.raises(SpecMismatch, match="but the last component is 'j2', expected 'gripper' or 'width'"):
        space_of(replace(delta, action=replace(held, components=("gripper", *JOINTS))))
    for names in (("j0", "j1", "gripper"), ("j0", "j0", "j2"), ("j0", "", "j2")):
        with pytest.raises(KinemaError, match=f"joint position of 'j0', {names[1]!r}, {names[2]!r}: expected distinct"):
            space_of(replace(robot(POSITION), action=replace(robot(POSITION).action, components=names)))
    # where nobody integrates it does not matter who carries it out
    pose = robot(SPACES["pose"])
    assert space_of(replace(pose, action=replace(pose.action, integrator="benchmark"))) == SPACES["pose"]
    assert CHUNK_START in robot(SPACES["relative"]).action.frame
