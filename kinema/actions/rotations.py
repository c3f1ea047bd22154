"""Rotations as matrices (..., 3, 3) float64, and every other way to write them, over any leading axes.

Matrices are the one form that is calculated with. Quaternions are wxyz, angles radians, a rotation vector is axis times
angle. R_a_b takes points of frame b to frame a.
"""

from __future__ import annotations

import numpy as np

from kinema.core.errors import KinemaError, unknown

_SMALLEST_ANGLE_RAD = 1e-6
"""Below this angle between its two vectors a 6D rotation names no plane that rounding would not change."""
_TOLERANCE = 1e-3
"""How far R Rᵀ may be from 1: rounding of what was stored, but no scale, mirror or other layout."""
_ORDERS = tuple(a + b + c for a in "xyz" for b in "xyz" for c in "xyz" if len({a, b, c}) == 3)
EULER = _ORDERS + tuple(order.upper() for order in _ORDERS)


def matrix_from_quaternion_wxyz(quaternion: np.ndarray) -> np.ndarray:
    """Return the matrices (..., 3, 3) of quaternions (..., 4) of any length but zero, which is a KinemaError."""
    quaternion = _components(quaternion, 4, "quaternion wxyz")
    length = np.linalg.norm(quaternion, axis=-1, keepdims=True)
    _refuse(length[..., 0] < 1e-12, quaternion, "quaternion of length zero")
    w, x, y, z = np.moveaxis(quaternion / length, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quaternion_wxyz_from_matrix(rotation: np.ndarray) -> np.ndarray:
    """Return unit quaternions (..., 4) with w >= 0.

    Reads the row with the largest diagonal of 4 q qᵀ, which a rotation matrix gives without division or roots, so
    that no angle loses precision (Shepperd 1978).
    """
    r = _matrices(rotation)
    a, b, c = r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]
    wx, wy, wz = (r[..., i, j] - r[..., j, i] for i, j in ((2, 1), (0, 2), (1, 0)))
    xy, xz, yz = (r[..., i, j] + r[..., j, i] for i, j in ((1, 0), (0, 2), (2, 1)))
    outer = [
        [1 + a + b + c, wx, wy, wz],
        [wx, 1 + a - b - c, xy, xz],
        [wy, xy, 1 - a + b - c, yz],
        [wz, xz, yz, 1 - a - b + c],
    ]
    products = np.stack([np.stack(row, axis=-1) for row in outer], axis=-2)
    largest = np.argmax(np.diagonal(products, axis1=-2, axis2=-1), axis=-1)
    quaternion = np.take_along_axis(products, largest[..., None, None], axis=-2)[..., 0, :]
    quaternion = quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True)
    return np.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def exp(rotation_vector_rad: np.ndarray) -> np.ndarray:
    """Return the matrices (..., 3, 3) of rotation vectors (..., 3): Rodrigues' formula, exact down to angle 0."""
    vector = _components(rotation_vector_rad, 3, "rotation vector")
    angle = np.linalg.norm(vector, axis=-1)[..., None, None]
    cross = _cross_matrix(vector)
    first, second = np.sinc(angle / np.pi), 0.5 * np.sinc(angle / (2 * np.pi)) ** 2  # sin θ/θ, (1 - cos θ)/θ²
    return np.eye(3) + first * cross + second * (cross @ cross)


def log(rotation: np.ndarray) -> np.ndarray:
    """Return the rotation vectors (..., 3) of angle 0 to pi; at pi exactly the axis' sign is arbitrary."""
    quaternion = quaternion_wxyz_from_matrix(rotation)
    half_sine = np.linalg.norm(quaternion[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(half_sine, quaternion[..., :1])
    scale = np.where(half_sine < 1e-12, 2.0, angle / np.maximum(half_sine, 1e-12))
    return quaternion[..., 1:] * scale


def columns_6d(rotation: np.ndarray) -> np.ndarray:
    """Return the first two columns one after the other, (..., 6): Zhou et al. 2019, eq. 13. The house's 6D."""
    r = _matrices(rotation)
    return np.concatenate([r[..., :, 0], r[..., :, 1]], axis=-1)


def matrix_from_columns_6d(six: np.ndarray) -> np.ndarray:
    """Return the proper rotation (..., 3, 3) that Gram-Schmidt makes of any two vectors: Zhou et al. 2019, eq. 14.

    Vectors of length zero, or parallel within 1e-6 rad, are a KinemaError that says which.
    """
    six = _components(six, 6, "6D rotation")
    lengths = np.linalg.norm(six.reshape(*six.shape[:-1], 2, 3), axis=-1)
    _refuse(lengths.min(axis=-1) < 1e-12, six, "6D rotation with a vector of length zero")
    first, second = six[..., :3] / lengths[..., :1], six[..., 3:] / lengths[..., 1:]
    normal = np.cross(first, second)
    sine = np.linalg.norm(normal, axis=-1, keepdims=True)
    _refuse(sine[..., 0] < _SMALLEST_ANGLE_RAD, six, "6D rotation with parallel vectors")
    normal = normal / sine
    return np.stack([first, np.cross(normal, first), normal], axis=-1)


def rows_6d(rotation: np.ndarray) -> np.ndarray:
    """Return the first two rows one after the other, (..., 6): the layout of pytorch3d and of UMI's datasets."""
    return columns_6d(np.swapaxes(_matrices(rotation), -1, -2))


def matrix_from_rows_6d(six: np.ndarray) -> np.ndarray:
    """Return the rotation (..., 3, 3) of a 6D in the layout of pytorch3d and of UMI's datasets."""
    return np.swapaxes(matrix_from_columns_6d(six), -1, -2)


def matrix_from_euler(angles_rad: np.ndarray, convention: str) -> np.ndarray:
    """Return the matrices (..., 3, 3) of three angles (..., 3); for files and robots that speak Euler angles only.

    `convention` names the axes in the order of the angles as scipy does: "xyz" turns about the fixed axes (roll, pitch,
    yaw), "ZYX" about the axes that turn along.
    """
    angles = _components(angles_rad, 3, "Euler angles")
    axes = _euler_axes(convention)
    turns = [exp(angles[..., i, None] * np.eye(3)[axis]) for i, axis in enumerate(axes)]
    return turns[0] @ turns[1] @ turns[2] if convention.isupper() else turns[2] @ turns[1] @ turns[0]


def euler_from_matrix(rotation: np.ndarray, convention: str) -> np.ndarray:
    """Return the three angles (..., 3) of `convention`, the middle one within ±pi/2.

    In gimbal lock only a sum of the outer angles is known: the one that turns first about a fixed axis is 0.
    """
    r = _matrices(rotation)
    i, j, k = _euler_axes(convention) if convention.isupper() else _euler_axes(convention)[::-1]
    sign = 1.0 if (j - i) % 3 == 1 else -1.0  # of the permutation ijk
    middle = np.arctan2(sign * r[..., i, k], np.hypot(r[..., i, i], r[..., i, j]))
    locked = np.abs(np.cos(middle)) < 1e-9
    outer = np.where(
        locked,
        np.arctan2(sign * r[..., k, j], r[..., j, j]),
        np.arctan2(-sign * r[..., j, k], r[..., k, k]),
    )
    inner = np.where(locked, 0.0, np.arctan2(-sign * r[..., i, j], r[..., i, i]))
    angles = np.stack([outer, middle, inner], axis=-1)
    return angles if convention.isupper() else angles[..., ::-1]


def slerp(start: np.ndarray, end: np.ndarray, fraction: np.ndarray | float) -> np.ndarray:
    """Return the rotations (..., 3, 3) at `fraction` (...) of the shortest way from `start` to `end`, at even speed."""
    start = _matrices(start)
    turn = log(np.swapaxes(start, -1, -2) @ _matrices(end))
    return start @ exp(np.asarray(fraction, np.float64)[..., None] * turn)


def distance_rad(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the angle (...) of the rotation between the two, 0 to pi: the geodesic distance."""
    return np.linalg.norm(log(np.swapaxes(_matrices(first), -1, -2) @ _matrices(second)), axis=-1)


def _cross_matrix(vector: np.ndarray) -> np.ndarray:
    x, y, z = np.moveaxis(vector, -1, 0)
    zero = np.zeros_like(x)
    rows = [[zero, -z, y], [z, zero, -x], [-y, x, zero]]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _euler_axes(convention: str) -> tuple[int, ...]:
    if convention not in EULER:
        raise unknown("Euler convention", convention, EULER)
    return tuple("xyz".index(axis) for axis in convention.lower())


def _matrices(rotation: np.ndarray) -> np.ndarray:
    rotation = np.asarray(rotation, np.float64)
    if rotation.shape[-2:] != (3, 3):
        raise KinemaError(f"rotation matrices of shape {rotation.shape}, expected (..., 3, 3)")
    with np.errstate(invalid="ignore"):
        mirrored = ~(np.linalg.det(rotation) > 0)
    off = np.abs(rotation @ np.swapaxes(rotation, -1, -2) - np.eye(3)).max(axis=(-2, -1))
    _refuse(mirrored | ~(off <= _TOLERANCE), rotation, "matrix that is no rotation")
    return rotation


def _components(values: np.ndarray, width: int, what: str) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.shape[-1:] != (width,):
        raise KinemaError(f"{what} of shape {values.shape}, expected (..., {width})")
    _refuse(~np.isfinite(values).all(axis=-1), values, f"{what} that is not finite")
    return values


def _refuse(bad: np.ndarray, values: np.ndarray, what: str) -> None:
    if np.any(bad):
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        where = f" at index {index}" if index else ""
        raise KinemaError(f"{what}{where}: {values[index].tolist()}")
