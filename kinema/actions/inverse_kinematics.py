"""Inverse kinematics: the joints that bring an arm's hand to a pose, or the reason why none do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from kinema.actions.kinematics import Arm, check_limits, is_singular, pose_error
from kinema.core.errors import KinemaError

_STALLED_STEPS = 10
"""An attempt ends when this many steps brought no hundredth of improvement."""


@dataclass(frozen=True, kw_only=True)
class Solution:
    """Joints (N,) [rad] within the limits, and how far from the target their hand is [m, rad]."""

    joints_rad: np.ndarray
    position_error_m: float
    rotation_error_rad: float


Reason = Literal["unreachable", "limit", "singular"]


class Unreached(KinemaError):
    """No joints bring the hand to the target; `closest` is the best that was found, and never used unasked.

    `reason` is "limit" where joints beyond their limits would do it, "singular" where the only attempt got stuck in a
    singular posture (restarts are a way out), else "unreachable".
    """

    def __init__(self, reason: Reason, closest: Solution, *, where: str = "target") -> None:
        self.reason, self.closest = reason, closest
        said = {
            "unreachable": "no joints within reach of it were found",
            "limit": "joints beyond their limits would reach it",
            "singular": "stuck in a singular posture, and no restarts are allowed",
        }
        super().__init__(
            f"inverse kinematics: {where} not reached ({reason}): {said[reason]}; the closest hand is "
            f"{closest.position_error_m:.4g} m and {closest.rotation_error_rad:.4g} rad away"
        )


@dataclass(frozen=True, kw_only=True)
class InverseKinematics:
    """The arm's own steps from a start and from `restarts` random ones, within its limits at every step.

    Solved means within `position_m` and `rotation_rad`. λ² = damping² + |e|²/2: careful far away, quick nearby, and
    defined where no solution exists (Sugihara 2011, "Solvability-Unconcerned Inverse Kinematics by the
    Levenberg-Marquardt Method"). `posture_gain` is the part of the way to a preferred posture that each
    step takes where the hand does not care.
    """

    position_m: float = 1e-4
    rotation_rad: float = 1e-3
    damping: float = 1e-3
    steps: int = 100
    restarts: int = 20
    posture_gain: float = 0.1

    def __post_init__(self) -> None:
        if not (min(self.position_m, self.rotation_rad, self.damping) > 0 and self.steps >= 1 and self.restarts >= 0):
            raise KinemaError(f"inverse kinematics: tolerances, damping and steps must be above 0: {self}")

    def solve(
        self,
        arm: Arm,
        T_frame_hand: np.ndarray,
        *,
        start_rad: np.ndarray,
        rng: np.random.Generator | None = None,
        posture_rad: np.ndarray | None = None,
    ) -> Solution:
        """Return joints that bring the hand to a pose (4, 4); raises Unreached with the closest otherwise.

        `rng` draws the restarts. `posture_rad` is preferred where more than one posture does it.
        """
        target = _checked(T_frame_hand, (4, 4), "target pose")
        start = _checked(start_rad, (len(arm.joints),), "start")
        check_limits(arm, start[None], "start")
        if posture_rad is not None:
            posture_rad = _checked(posture_rad, start.shape, "posture")
        if self.restarts and rng is None:
            raise KinemaError("inverse kinematics: restarts need rng, a generator to draw them with")
        closest = self._descend(arm, target, start, posture_rad, limited=True)
        for _ in range(self.restarts):
            if self._solved(closest) or rng is None:
                break
            found = self._descend(arm, target, _random_joints(arm, rng), posture_rad, limited=True)
            closest = min(closest, found, key=self._badness)
        if not self._solved(closest):
            raise Unreached(self._reason(arm, target, closest), closest)
        return closest

    def _descend(
        self, arm: Arm, target: np.ndarray, joints: np.ndarray, posture: np.ndarray | None, *, limited: bool
    ) -> Solution:
        """Return the best joints of one attempt."""
        low, high = (arm.low_rad, arm.high_rad) if limited else (-np.inf, np.inf)
        error = pose_error(arm.forward(joints), target)
        best, improved = _solution(joints, error), 0
        for step in range(1, self.steps + 1):
            if self._solved(best) or step - improved > _STALLED_STEPS:
                break
            damping = float(np.sqrt(self.damping**2 + error @ error / 2))
            aim = joints if posture is None else joints + self.posture_gain * (posture - joints)
            move = arm.step(joints, target, posture_rad=aim, damping=damping, limited=limited)
            joints = np.clip(joints + move, low, high)  # a solver keeps to limits within its own tolerance
            error = pose_error(arm.forward(joints), target)
            now = _solution(joints, error)
            if self._solved(now) or self._badness(now) < 0.99 * self._badness(best):
                best, improved = now, step
        return best

    def _reason(self, arm: Arm, target: np.ndarray, closest: Solution) -> Reason:
        if self._solved(self._descend(arm, target, closest.joints_rad, None, limited=False)):
            return "limit"
        stuck = not self.restarts and is_singular(arm.jacobian(closest.joints_rad))
        return "singular" if stuck else "unreachable"

    def _badness(self, solution: Solution) -> float:
        """Return the error in units of the tolerances."""
        return max(solution.position_error_m / self.position_m, solution.rotation_error_rad / self.rotation_rad)

    def _solved(self, solution: Solution) -> bool:
        return self._badness(solution) <= 1


def _random_joints(arm: Arm, rng: np.random.Generator) -> np.ndarray:
    """Return joints (N,) within the limits; one without a limit turns at least once around."""
    low = np.where(np.isfinite(arm.low_rad), arm.low_rad, np.minimum(-np.pi, arm.high_rad - 2 * np.pi))
    high = np.where(np.isfinite(arm.high_rad), arm.high_rad, np.maximum(np.pi, low + 2 * np.pi))
    return rng.uniform(low, high)


def _solution(joints: np.ndarray, error: np.ndarray) -> Solution:
    return Solution(
        joints_rad=joints,
        position_error_m=float(np.linalg.norm(error[:3])),
        rotation_error_rad=float(np.linalg.norm(error[3:])),
    )


def _checked(value: np.ndarray, shape: tuple[int, ...], what: str) -> np.ndarray:
    value = np.asarray(value, np.float64)
    if value.shape != shape or not np.isfinite(value).all():
        raise KinemaError(f"{what} of shape {value.shape}, expected {shape} finite numbers")
    return value
