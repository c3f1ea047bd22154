"""A planar arm whose numbers can be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from kinema.actions.control import DynamicArm
from kinema.actions.kinematics import damped_step, pose_error
from kinema.actions.poses import pose
from kinema.actions.rotations import exp


class PlanarArm(DynamicArm):
    """Links that turn about z, with a point mass of 1 kg at the end of the first; gravity pulls along -y."""

    frame = "base"

    def __init__(self, *lengths_m: float, limit_rad: float = np.pi) -> None:
        self.lengths_m = np.asarray(lengths_m)
        self.joints = tuple(f"j{i}" for i in range(len(lengths_m)))
        self.low_rad, self.high_rad = np.full(len(lengths_m), -limit_rad), np.full(len(lengths_m), limit_rad)

    def forward(self, joints_rad: np.ndarray) -> np.ndarray:
        angles = np.cumsum(joints_rad)
        position = [self.lengths_m @ np.cos(angles), self.lengths_m @ np.sin(angles), 0.0]
        return pose(np.array(position), exp(np.array([0.0, 0.0, angles[-1]])))

    def jacobian(self, joints_rad: np.ndarray) -> np.ndarray:
        angles = np.cumsum(joints_rad)
        made = np.zeros((6, len(angles)))
        for joint in range(len(angles)):
            made[0, joint] = -self.lengths_m[joint:] @ np.sin(angles[joint:])
            made[1, joint] = self.lengths_m[joint:] @ np.cos(angles[joint:])
            made[5, joint] = 1.0
        return made

    def step(
        self,
        joints_rad: np.ndarray,
        T_frame_hand: np.ndarray,
        *,
        posture_rad: np.ndarray,
        damping: float,
        limited: bool,
    ) -> np.ndarray:
        jacobian, aside = self.jacobian(joints_rad), posture_rad - joints_rad
        error = pose_error(self.forward(joints_rad), T_frame_hand) - jacobian @ aside
        return aside + damped_step(jacobian, error, damping)

    def mass(self, joints_rad: np.ndarray) -> np.ndarray:
        return np.diag([self.lengths_m[0] ** 2] + [1.0] * (len(self.joints) - 1))

    def bias(self, joints_rad: np.ndarray, velocity_rad_s: np.ndarray) -> np.ndarray:
        return np.array([9.81 * self.lengths_m[0] * np.cos(joints_rad[0])] + [0.0] * (len(self.joints) - 1))


@pytest.fixture
def planar() -> Callable[..., PlanarArm]:
    return PlanarArm
