"""Action spaces: what the numbers of an action mean, as types that know unit, frame, rate and who integrates.

Here those of joints; those of the end effector are in `kinema.actions.end_effector`.

A chunk is (H, A). Row k is the command from k to k + 1 periods after the chunk's start, so that a target in row k is to
be reached at the end of that time. `Space.spec` writes a space as the ActionSpec that datasets and policies carry;
`kinema.actions.convert` reads it back, and goes from one space to another or says why it cannot.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kinema.actions.control import DynamicArm, JointState
from kinema.actions.gripper import Gripper
from kinema.actions.kinematics import Arm
from kinema.core.errors import KinemaError
from kinema.core.spec import ActionSpec


@dataclass(frozen=True, kw_only=True)
class Space(ABC):
    """The meaning of an arm's action, without its gripper; `rate_hz` is how often one is sent."""

    rate_hz: float

    kind: ClassVar[str]
    integrator: ClassVar[str] = "controller"
    integrates: ClassVar[bool] = False
    rotation: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        if not self.rate_hz > 0:
            raise KinemaError(f"{self.kind}: rate {self.rate_hz} Hz, expected above 0")

    @property
    @abstractmethod
    def layout(self) -> tuple[tuple[str, ...], tuple[str, ...], str]:
        """Names of the components, their units, and the frame."""

    def spec(self, *, low: Sequence[float], high: Sequence[float], gripper: Gripper | None = None) -> ActionSpec:
        """Return the ActionSpec of this space within bounds (A,), with the gripper, if any, as last component."""
        components, units, frame = self.layout
        if gripper is not None:
            components, units = (*components, "gripper"), (*units, gripper.unit)
            low, high = (*low, min(gripper.open, gripper.closed)), (*high, max(gripper.open, gripper.closed))
        return ActionSpec(
            components=components,
            units=units,
            frame=frame,
            kind=self.kind,
            integrator=self.integrator,
            low=tuple(low),
            high=tuple(high),
            gripper=gripper.words if gripper else None,
            rotation=self.rotation,
        )


@dataclass(frozen=True, kw_only=True)
class JointSpace(Space):
    """One number for each joint."""

    joints: tuple[str, ...]

    unit: ClassVar[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.joints or len(set(self.joints)) < len(self.joints) or {"", "gripper"} & set(self.joints):
            raise KinemaError(
                f"{self.kind} of {', '.join(map(repr, self.joints)) or 'no joints'}: expected distinct names of "
                "joints; a gripper is none, and has its own convention in the ActionSpec"
            )

    @property
    def layout(self) -> tuple[tuple[str, ...], tuple[str, ...], str]:
        """The joints, their unit, and no frame but theirs."""
        return self.joints, (self.unit,) * len(self.joints), "joints"

    @abstractmethod
    def to_joints(self, values: np.ndarray, start: JointState) -> np.ndarray:
        """Return the joint targets (H, N) [rad] that `values` (H, N) lead to from `start`."""

    @abstractmethod
    def from_joints(self, targets: np.ndarray, start: JointState, arm: Arm) -> np.ndarray:
        """Return the values (H, N) that lead through joint targets (H, N) [rad] from `start`."""


@dataclass(frozen=True, kw_only=True)
class JointPosition(JointSpace):
    """Where each joint is to be [rad]; nobody integrates."""

    kind: ClassVar[str] = "joint position"
    unit: ClassVar[str] = "rad"

    def to_joints(self, values: np.ndarray, start: JointState) -> np.ndarray:
        """Return `values`."""
        return values

    def from_joints(self, targets: np.ndarray, start: JointState, arm: Arm) -> np.ndarray:
        """Return `targets`."""
        return targets


@dataclass(frozen=True, kw_only=True)
class JointVelocity(JointSpace):
    """How fast each joint moves for one period [rad/s]; the controller sums velocity x period from the start on."""

    kind: ClassVar[str] = "joint velocity"
    unit: ClassVar[str] = "rad/s"
    integrator: ClassVar[str] = "controller, from the joints measured at the start of the chunk"
    integrates: ClassVar[bool] = True

    def to_joints(self, values: np.ndarray, start: JointState) -> np.ndarray:
        """Return the start plus the sum of velocity x period."""
        return start.joints_rad + np.cumsum(values, axis=0) / self.rate_hz

    def from_joints(self, targets: np.ndarray, start: JointState, arm: Arm) -> np.ndarray:
        """Return the differences over one period."""
        return np.diff(targets, axis=0, prepend=start.joints_rad[None]) * self.rate_hz


@dataclass(frozen=True, kw_only=True)
class JointTorque(JointSpace):
    """The torque of each motor for one period [N m]; the arm itself integrates, twice."""

    kind: ClassVar[str] = "joint torque"
    unit: ClassVar[str] = "N m"
    integrator: ClassVar[str] = "the arm's dynamics"

    def to_joints(self, values: np.ndarray, start: JointState) -> np.ndarray:
        """Raise KinemaError: where torques lead depends on everything that is touched."""
        raise KinemaError("joint torque cannot be converted: where torques lead, only the arm or a simulation can tell")

    def from_joints(self, targets: np.ndarray, start: JointState, arm: Arm) -> np.ndarray:
        """Return M q̈ + bias along the targets: exact for an arm that steps v += a dt, q += v dt at this rate."""
        if not isinstance(arm, DynamicArm):
            raise KinemaError(f"joint torque needs an arm whose masses are known, not {type(arm).__name__}")
        at = np.concatenate([start.joints_rad[None], targets])
        velocity = np.concatenate([start.velocity_rad_s[None], np.diff(at, axis=0) * self.rate_hz])
        acceleration = np.diff(velocity, axis=0) * self.rate_hz
        return np.stack([arm.mass(q) @ a + arm.bias(q, v) for q, v, a in zip(at, velocity, acceleration, strict=False)])
