"""Controllers: PID, PD with gravity compensation, computed torque and operational space, as pure functions.

Joints are (N,) [rad], velocities [rad/s], torques [N m]; time steps are arguments. Gains are numbers or (N,).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from kinema.actions.kinematics import Arm, is_singular, pose_error
from kinema.core.errors import KinemaError

Gain = np.ndarray | float


class DynamicArm(Arm):
    """An arm whose masses are known: M(q) q̈ + bias(q, q̇) = torque."""

    @abstractmethod
    def mass(self, joints_rad: np.ndarray) -> np.ndarray:
        """Return the joint-space inertia M (N, N) [kg m²]."""

    @abstractmethod
    def bias(self, joints_rad: np.ndarray, velocity_rad_s: np.ndarray) -> np.ndarray:
        """Return C(q, q̇) q̇ + g(q) (N,) [N m], with what springs and dampers of the joints ask on top.

        At velocity 0 it is what holds the arm still: gravity and springs.
        """


@dataclass(frozen=True, kw_only=True)
class JointState:
    """Measured joints (N,) [rad] and their velocities (N,) [rad/s]."""

    joints_rad: np.ndarray
    velocity_rad_s: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Where the joints should be now (N,) [rad], with what velocity [rad/s] and acceleration [rad/s²]."""

    joints_rad: np.ndarray
    velocity_rad_s: np.ndarray | float = 0.0
    acceleration_rad_s2: np.ndarray | float = 0.0


@dataclass(frozen=True, kw_only=True)
class PidMemory:
    """What a PID controller keeps from one step to the next; as made here, it has seen nothing."""

    integral: Any = 0.0
    derivative: Any = 0.0
    measured: Any = None


@dataclass(frozen=True, kw_only=True)
class Pid:
    """u = kp e + ki ∫e - kd ẏ, clamped to `low` to `high` (Åström & Hägglund 1995, ch. 3).

    The derivative is of the measurement, so that a jump of the set point does not kick, through a filter of time
    constant `filter_s`. While the output is clamped the integral is pulled back with time constant `tracking_s`
    (back-calculation), so that it does not wind up; a clamped integral needs it, and `np.inf` lets it wind up.
    Without `ki` there is no integral to pull back, and `tracking_s` is an error.
    """

    kp: float
    ki: float = 0.0
    kd: float = 0.0
    low: float = -np.inf
    high: float = np.inf
    filter_s: float = 0.0
    tracking_s: float | None = None

    def __post_init__(self) -> None:
        tracking_s = np.inf if self.tracking_s is None else self.tracking_s
        if not (self.low < self.high and self.filter_s >= 0 and tracking_s > 0):
            raise KinemaError(f"PID: expected low < high, filter_s >= 0 and tracking_s > 0, not {self}")
        if self.tracking_s is not None and not self.ki:
            raise KinemaError("PID: tracking_s pulls back an integral, and without ki there is none")
        if self.tracking_s is None and self.ki and np.isfinite([self.low, self.high]).any():
            raise KinemaError("PID: a clamped integral needs tracking_s, or it winds up; about the integral's own time")

    def step(self, memory: PidMemory, set_point: Any, measured: Any, dt_s: float) -> tuple[Any, PidMemory]:
        """Return the output for the next `dt_s` seconds, and the memory for the next step; numbers or arrays."""
        if not dt_s > 0:
            raise KinemaError(f"PID: dt {dt_s} s, expected above 0")
        error = np.subtract(set_point, measured)
        if not np.isfinite(error).all():
            raise KinemaError(f"PID: set point {set_point} or measurement {measured} is not finite")
        change = 0.0 if memory.measured is None else np.subtract(measured, memory.measured)
        # backward differences: stable for every dt
        derivative = (self.filter_s * memory.derivative - self.kd * change) / (self.filter_s + dt_s)
        free = self.kp * error + memory.integral + derivative
        output = np.clip(free, self.low, self.high)
        pull_back = min(dt_s / (self.tracking_s or np.inf), 1.0) * (output - free)  # no further than all the way
        integral = memory.integral + self.ki * error * dt_s + pull_back
        return output, PidMemory(integral=integral, derivative=derivative, measured=measured)


def pd(state: JointState, target: Reference, *, kp: Gain, kd: Gain) -> np.ndarray:
    """Return kp e + kd ė (N,): torque [N m] for gains in N m/rad and N m s/rad, with an offset where gravity pulls."""
    error = target.joints_rad - state.joints_rad
    return _finite(kp * error + kd * (target.velocity_rad_s - state.velocity_rad_s))


def pd_with_gravity(arm: DynamicArm, state: JointState, target: Reference, *, kp: Gain, kd: Gain) -> np.ndarray:
    """Return the torque (N,) of PD plus g(q): comes to rest on a resting target (Takegaki & Arimoto 1981)."""
    return pd(state, target, kp=kp, kd=kd) + arm.bias(state.joints_rad, np.zeros_like(state.joints_rad))


def computed_torque(
    arm: DynamicArm, state: JointState, target: Reference, *, kp: Gain, kd: Gain | None = None
) -> np.ndarray:
    """Return the torque (N,) after which ë + kd ė + kp e = 0: M (q̈_d + kd ė + kp e) + C q̇ + g (Craig, ch. 10).

    `kp` [1/s²] and `kd` [1/s] are the same for a heavy arm and a light one; without `kd` the error is critically
    damped, kd = 2 √kp.
    """
    kd = 2 * np.sqrt(kp) if kd is None else kd
    acceleration = target.acceleration_rad_s2 + pd(state, target, kp=kp, kd=kd)
    return _finite(arm.mass(state.joints_rad) @ acceleration + arm.bias(state.joints_rad, state.velocity_rad_s))


@dataclass(frozen=True, kw_only=True)
class HandReference:
    """Where the hand should be now, T_frame_hand (4, 4), with what twist and its derivative (6,) in the arm's frame."""

    pose: np.ndarray
    twist: np.ndarray | float = 0.0
    acceleration: np.ndarray | float = 0.0


def operational_space(
    arm: DynamicArm, state: JointState, target: HandReference, *, kp: float, posture_rad: np.ndarray | None = None
) -> np.ndarray:
    """Return the torque (N,) after which the hand's error is critically damped: ë + 2√kp ė + kp e = 0.

    Jᵀ Λ (ẍ_d + kd ė + kp e - J̇q̇) + C q̇ + g, with Λ = (J M⁻¹ Jᵀ)⁻¹ (Khatib 1987). In the null space the joints go
    to `posture_rad`, or are only damped. A singular posture is a KinemaError: Λ has no bound there.
    """
    joints, velocity, kd = state.joints_rad, state.velocity_rad_s, 2 * np.sqrt(kp)
    jacobian, mass = arm.jacobian(joints), arm.mass(joints)
    if jacobian.shape[1] < 6 or is_singular(jacobian):
        raise KinemaError(
            f"operational space: singular posture {np.round(joints, 3).tolist()}: a direction of the hand is lost"
        )
    by_mass = np.linalg.solve(mass, jacobian.T)  # M⁻¹Jᵀ
    mobility = jacobian @ by_mass
    error = pose_error(arm.forward(joints), target.pose)
    wanted = target.acceleration + kd * (target.twist - jacobian @ velocity) + kp * error
    step = 1e-5  # [s] of motion, for J̇q̇
    drift = (arm.jacobian(joints + step * velocity) - arm.jacobian(joints - step * velocity)) @ velocity / (2 * step)
    force = np.linalg.solve(mobility, wanted - drift)
    inner = -kd * velocity + (0.0 if posture_rad is None else kp * (posture_rad - joints))
    # the null space of J as M weighs it: accelerations that leave the hand's acceleration alone
    inner = inner - by_mass @ np.linalg.solve(mobility, jacobian @ inner)
    return _finite(jacobian.T @ force + mass @ inner + arm.bias(joints, velocity))


def _finite(torque: np.ndarray) -> np.ndarray:
    if not np.isfinite(torque).all():
        raise KinemaError(f"the state or target is not finite, and the torque would not be: {torque.tolist()}")
    return torque
