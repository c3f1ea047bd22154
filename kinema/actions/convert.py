"""From one action space to another, and from an ActionSpec to its space; what cannot be converted is an error."""

from __future__ import annotations

from typing import Any

import numpy as np

from kinema.actions.control import JointState
from kinema.actions.end_effector import (
    HAND,
    EndEffectorDelta,
    EndEffectorPose,
    EndEffectorRelative,
    EndEffectorSpace,
)
from kinema.actions.inverse_kinematics import InverseKinematics, Unreached
from kinema.actions.kinematics import Arm, check_limits
from kinema.actions.spaces import JointPosition, JointSpace, JointTorque, JointVelocity
from kinema.core.errors import KinemaError, SpecMismatch, unknown
from kinema.core.spec import RobotSpec

AnySpace = JointSpace | EndEffectorSpace
_JOINT_SPACES = {space.kind: space for space in (JointPosition, JointVelocity, JointTorque)}
_END_EFFECTOR_SPACES = {space.kind: space for space in (EndEffectorPose, EndEffectorRelative, EndEffectorDelta)}

_GRIPPERS = ("gripper", "width")


def convert(values: np.ndarray, source: AnySpace, target: AnySpace, *, start: JointState, arm: Arm) -> np.ndarray:
    """Return a chunk (H, A) of one space in another, for an arm that is at `start` when the chunk begins.

    `start` is measured, but where `source` or `target` are deltas its joints are those last commanded: their controller
    goes on from there, and the measured joints lag behind.

    Raises KinemaError for another rate, frame or set of joints, targets beyond the joints' limits, torques as source,
    and (as Unreached) poses that no joints reach near those before.
    """
    values = _checked(values, source, target, start, arm)
    if isinstance(source, JointSpace):
        joints = source.to_joints(values, start)
        check_limits(arm, joints, source.kind)
        if isinstance(target, JointSpace):
            return target.from_joints(joints, start, arm)
        targets = np.stack([arm.forward(row) for row in joints])
    else:
        targets = source.to_poses(values, arm.forward(start.joints_rad))
    if isinstance(target, EndEffectorSpace):
        return target.from_poses(targets, arm.forward(start.joints_rad))
    return target.from_joints(_follow(arm, targets, start.joints_rad), start, arm)


def space_of(robot: RobotSpec) -> AnySpace:
    """Return the space of a robot's or dataset's actions, without the gripper.

    A gripper is the last component, called "gripper" or "width". Raises SpecMismatch for other components, units or
    rotations and a controller that integrates differently, KinemaError for names that joints cannot have.
    """
    action = robot.action
    if action.gripper is not None and action.components[-1] not in _GRIPPERS:
        raise SpecMismatch(
            f"gripper {action.gripper!r}, but the last component is {action.components[-1]!r}, "
            f"expected {' or '.join(map(repr, _GRIPPERS))}"
        )
    count = action.width - (action.gripper is not None)
    if action.kind in _JOINT_SPACES:
        space: AnySpace = _JOINT_SPACES[action.kind](rate_hz=robot.rate_hz, joints=action.components[:count])
    elif action.kind in _END_EFFECTOR_SPACES:
        space = _END_EFFECTOR_SPACES[action.kind](rate_hz=robot.rate_hz, frame=action.frame)
    else:
        raise unknown("kind of action", action.kind, (*_JOINT_SPACES, *_END_EFFECTOR_SPACES))
    components, units, frame = space.layout
    checks: list[tuple[str, Any, Any]] = [
        ("components", action.components[:count], components),
        ("units", action.units[:count], units),
        ("frame", action.frame, frame),
        ("rotation", action.rotation, space.rotation),
    ]
    if space.integrates:
        checks.append(("integrator", action.integrator, space.integrator))
    wrong = [f"  {name}: {have!r}, expected {want!r}" for name, have, want in checks if have != want]
    if wrong:
        raise SpecMismatch("\n".join([f"the action is no {action.kind} as kinema converts it:", *wrong]))
    return space


def _follow(arm: Arm, targets: np.ndarray, start_rad: np.ndarray) -> np.ndarray:
    """Return joint targets (H, N) along poses (H, 4, 4), each solved from the one before, so that no joint jumps."""
    solver, joints, made = InverseKinematics(position_m=1e-7, rotation_rad=1e-7, restarts=0), start_rad, []
    for step, target in enumerate(targets):
        try:
            joints = solver.solve(arm, target, start_rad=joints).joints_rad
        except Unreached as error:
            raise Unreached(error.reason, error.closest, where=f"step {step} of {len(targets)}") from error
        made.append(joints)
    return np.stack(made)


def _checked(values: np.ndarray, source: AnySpace, target: AnySpace, start: JointState, arm: Arm) -> np.ndarray:
    for known in (start.joints_rad, start.velocity_rad_s):
        if np.shape(known) != (len(arm.joints),) or not np.isfinite(known).all():
            raise KinemaError(f"the chunk's start is {known}, expected {len(arm.joints)} finite numbers")
    if source.rate_hz != target.rate_hz:
        raise KinemaError(
            f"{source.kind} at {source.rate_hz:g} Hz to {target.kind} at {target.rate_hz:g} Hz: resample it first"
        )
    for space in (source, target):
        if isinstance(space, JointSpace) and space.joints != arm.joints:
            raise KinemaError(f"{space.kind} of {', '.join(space.joints)}, but the arm has {', '.join(arm.joints)}")
        frames = (arm.frame, HAND) if isinstance(space, EndEffectorDelta) else (arm.frame,)
        if isinstance(space, (EndEffectorPose, EndEffectorDelta)) and space.frame not in frames:
            raise KinemaError(
                f"{space.kind} in frame {space.frame!r}, but this arm knows {' and '.join(map(repr, frames))}"
            )
    values = np.asarray(values, np.float64)
    width = len(source.layout[0])
    if values.ndim != 2 or values.shape[1] != width or not len(values) or not np.isfinite(values).all():
        raise KinemaError(f"{source.kind} of shape {values.shape}, expected (H, {width}) finite numbers")
    return values
