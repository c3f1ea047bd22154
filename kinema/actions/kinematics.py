"""Arms: where the hand is, and how it moves with the joints.

Joints are (N,) float64 [rad]. A twist or pose error is 6 numbers in the axes of the arm's fixed frame: translation of
the hand's origin [m], then rotation vector [rad].
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from kinema.actions import rotations
from kinema.core.errors import KinemaError

_SINGULAR = 1e-2
"""Smallest singular value of a Jacobian [m/rad, rad/rad] below which a direction of the hand counts as lost."""


class Arm(ABC):
    """A chain of N revolute joints within limits, from the fixed frame called `frame` to the hand."""

    frame: str
    joints: tuple[str, ...]
    low_rad: np.ndarray
    high_rad: np.ndarray

    @abstractmethod
    def forward(self, joints_rad: np.ndarray) -> np.ndarray:
        """Return the pose of the hand, T_frame_hand (4, 4)."""

    @abstractmethod
    def jacobian(self, joints_rad: np.ndarray) -> np.ndarray:
        """Return the geometric Jacobian (6, N): the hand's twist for each joint's unit velocity."""

    @abstractmethod
    def step(
        self,
        joints_rad: np.ndarray,
        T_frame_hand: np.ndarray,
        *,
        posture_rad: np.ndarray,
        damping: float,
        limited: bool,
    ) -> np.ndarray:
        """Return the motion x (N,) of joints that brings the hand nearer to a pose (4, 4); J and e are those of here.

        It minimises |J x - e|² + damping² |joints_rad + x - posture_rad|², within the limits if `limited`.
        """


def pose_error(T_now: np.ndarray, T_target: np.ndarray) -> np.ndarray:
    """Return the 6 numbers from one pose (4, 4) to another: difference of positions, log of R_target R_nowᵀ."""
    turn = rotations.log(T_target[:3, :3] @ T_now[:3, :3].T)
    return np.concatenate([T_target[:3, 3] - T_now[:3, 3], turn])


def damped_step(jacobian: np.ndarray, error: np.ndarray, damping: float) -> np.ndarray:
    """Return the damped least-squares step Jᵀ(JJᵀ + λ²I)⁻¹e (N,) of joints towards removing `error` (6,).

    Never longer than |e| / 2λ, since σ/(σ² + λ²) <= 1/2λ: no singular posture makes it jump (Buss 2004).
    """
    if not damping > 0:
        raise KinemaError(f"damping {damping}: expected above 0; without it a step has no bound")
    damped = jacobian @ jacobian.T + damping**2 * np.eye(len(jacobian))
    return jacobian.T @ np.linalg.solve(damped, error)


def is_singular(jacobian: np.ndarray) -> bool:
    """Return whether the hand can hardly move in some direction: the smallest singular value is below 0.01."""
    return bool(np.linalg.svd(jacobian, compute_uv=False)[-1] < _SINGULAR)


def null_space(jacobian: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Return the part (I - J⁺J) of a joint motion (N,) that leaves the hand where it is (Chiaverini 1997)."""
    return motion - np.linalg.pinv(jacobian, rcond=1e-9) @ (jacobian @ motion)


def check_limits(arm: Arm, joints_rad: np.ndarray, what: str) -> None:
    """Raise KinemaError naming the first joint of `joints_rad` (T, N) that is beyond the arm's limits."""
    beyond = np.argwhere((joints_rad < arm.low_rad) | (joints_rad > arm.high_rad))
    if len(beyond):
        step, joint = beyond[0]
        raise KinemaError(
            f"{what}, step {step}: joint {arm.joints[joint]!r} at {joints_rad[step, joint]:.4f} rad, "
            f"beyond its limits {arm.low_rad[joint]:.4f} to {arm.high_rad[joint]:.4f}"
        )
