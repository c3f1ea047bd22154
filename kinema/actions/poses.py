"""Rigid poses (SE(3)) as matrices (..., 4, 4) float64: T_a_b takes points of frame b to frame a.

As a vector a pose is 9 numbers: position [m], then the first two columns of the rotation (6D, Zhou et al. 2019).
"""

from __future__ import annotations

import numpy as np

from kinema.actions import rotations
from kinema.core.errors import KinemaError

COMPONENTS = ("x", "y", "z", "r11", "r21", "r31", "r12", "r22", "r32")
UNITS = ("m",) * 3 + ("1",) * 6
LAYOUT = "6D, the first two columns of the rotation matrix one after the other"


def pose(position_m: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Return T_a_b (..., 4, 4) from the position of b in a (..., 3) and R_a_b (..., 3, 3)."""
    position_m, rotation = np.asarray(position_m, np.float64), np.asarray(rotation, np.float64)
    if position_m.shape[-1:] != (3,) or rotation.shape[-2:] != (3, 3):
        raise KinemaError(f"a pose of {position_m.shape} and {rotation.shape}, expected (..., 3) and (..., 3, 3)")
    made = np.zeros((*np.broadcast_shapes(position_m.shape[:-1], rotation.shape[:-2]), 4, 4))
    made[..., :3, :3], made[..., :3, 3], made[..., 3, 3] = rotation, position_m, 1.0
    return made


def compose(T_a_b: np.ndarray, T_b_c: np.ndarray) -> np.ndarray:
    """Return T_a_c (..., 4, 4)."""
    return _poses(T_a_b) @ _poses(T_b_c)


def inverse(T_a_b: np.ndarray) -> np.ndarray:
    """Return T_b_a (..., 4, 4), by transposing instead of solving."""
    T_a_b = _poses(T_a_b)
    back = np.swapaxes(T_a_b[..., :3, :3], -1, -2)
    return pose(-(back @ T_a_b[..., :3, 3:])[..., 0], back)


def to_vector(T_a_b: np.ndarray) -> np.ndarray:
    """Return position and 6D columns, (..., 9)."""
    T_a_b = _poses(T_a_b)
    return np.concatenate([T_a_b[..., :3, 3], rotations.columns_6d(T_a_b[..., :3, :3])], axis=-1)


def from_vector(vector: np.ndarray) -> np.ndarray:
    """Return the poses (..., 4, 4) of 9-vectors; their 6D part need not be orthonormal, but not degenerate."""
    vector = np.asarray(vector, np.float64)
    if vector.shape[-1:] != (9,):
        raise KinemaError(f"pose vectors of shape {vector.shape}, expected (..., 9): position, 6D rotation")
    return pose(vector[..., :3], rotations.matrix_from_columns_6d(vector[..., 3:]))


def encode_relative(T_world_base: np.ndarray, T_world_target: np.ndarray) -> np.ndarray:
    """Return the targets as seen from one base pose, (..., H, 9): to_vector of T_world_base⁻¹ T_world_target.

    `T_world_base` is (..., 4, 4), `T_world_target` (..., H, 4, 4). Moving the world changes nothing, and the error of
    one step does not reach the next. The "relative" of UMI (Chi et al. 2024, arXiv 2402.10329): neither a step-to-step
    delta nor a difference of components.
    """
    return to_vector(inverse(T_world_base)[..., None, :, :] @ _poses(T_world_target))


def decode_relative(T_world_base: np.ndarray, relative: np.ndarray) -> np.ndarray:
    """Return the targets T_world_target (..., H, 4, 4) of `relative` (..., H, 9) around one base pose (..., 4, 4)."""
    return _poses(T_world_base)[..., None, :, :] @ from_vector(relative)


def interpolate(start: np.ndarray, end: np.ndarray, fraction: np.ndarray | float) -> np.ndarray:
    """Return the poses at `fraction` (...) of the way: positions on a line, rotations by SLERP."""
    start, end, fraction = _poses(start), _poses(end), np.asarray(fraction, np.float64)
    position = start[..., :3, 3] + fraction[..., None] * (end[..., :3, 3] - start[..., :3, 3])
    return pose(position, rotations.slerp(start[..., :3, :3], end[..., :3, :3], fraction))


def resample(time_s: np.ndarray, poses: np.ndarray, at_s: np.ndarray) -> np.ndarray:
    """Return the poses (M, 4, 4) at times `at_s` (M,) of a path `poses` (N, 4, 4) at rising times `time_s` (N,).

    Nothing is extrapolated: a time outside the path is a KinemaError.
    """
    time_s, at_s, poses = np.asarray(time_s, np.float64), np.asarray(at_s, np.float64), _poses(poses)
    if len(time_s) < 2 or not (np.diff(time_s) > 0).all():
        raise KinemaError(f"a path of {len(time_s)} poses; expected at least 2, at times that rise")
    if at_s.size and not (time_s[0] <= at_s.min() and at_s.max() <= time_s[-1]):
        raise KinemaError(
            f"poses at {at_s.min():.6f} to {at_s.max():.6f} s are asked of a path "
            f"from {time_s[0]:.6f} to {time_s[-1]:.6f} s; nothing is extrapolated"
        )
    after = np.clip(np.searchsorted(time_s, at_s, side="right"), 1, len(time_s) - 1)
    fraction = (at_s - time_s[after - 1]) / (time_s[after] - time_s[after - 1])
    return interpolate(poses[after - 1], poses[after], fraction)


def _poses(value: np.ndarray) -> np.ndarray:
    value = np.asarray(value, np.float64)
    if value.shape[-2:] != (4, 4):
        raise KinemaError(f"poses of shape {value.shape}, expected (..., 4, 4)")
    return value
