"""Finger tags in pictures: ArUco detection and the distance between the two fingers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import cv2
import numpy as np

from kinema.actions.poses import pose
from kinema.actions.rotations import exp
from kinema.core.errors import KinemaError, unknown
from kinema.data.umi.rig import FingerTags, Lens


def detect(image: np.ndarray, lens: Lens, tags: FingerTags) -> Mapping[int, np.ndarray]:
    """Return T_camera_tag (4, 4) of the finger tags that are seen in `image` (Hi, Wi, 3) uint8 RGB, by their number.

    Corners are found to a fraction of a pixel, freed of the lens' distortion, and the pose is that of a square of
    the known size (Collins and Bartoli 2014, IPPE).
    """
    if image.shape != (lens.height, lens.width, 3) or image.dtype != np.uint8:
        raise KinemaError(
            f"a picture of {image.shape} {image.dtype}, "
            f"the lens is calibrated for ({lens.height}, {lens.width}, 3) uint8"
        )
    corners, numbers, _ = _detector(tags).detectMarkers(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    found = {}
    for own, number in zip(corners, [] if numbers is None else numbers.ravel(), strict=True):
        if number in (tags.left, tags.right):
            found[int(number)] = _pose(_undistorted(own.reshape(4, 1, 2), lens), tags.size_m)
    return found


def tag_distances(images: Iterable[np.ndarray], lens: Lens, tags: FingerTags) -> np.ndarray:
    """Return the distance [m] of the tags along `tags.axis` in each picture (N,), NaN where one is not seen."""
    return np.array([tag_distance(detect(image, lens, tags), tags) for image in images])


def tag_distance(found: Mapping[int, np.ndarray], tags: FingerTags) -> float:
    """Return the distance [m] from left to right tag along the axis, NaN unless both were found."""
    if tags.left not in found or tags.right not in found:
        return float("nan")
    axis = np.asarray(tags.axis, np.float64)
    between = found[tags.right][:3, 3] - found[tags.left][:3, 3]
    return float(between @ axis / np.linalg.norm(axis))


def _detector(tags: FingerTags) -> cv2.aruco.ArucoDetector:
    known = [name for name in vars(cv2.aruco) if name.startswith("DICT_")]
    if tags.dictionary not in known:
        raise unknown("ArUco dictionary", tags.dictionary, known)
    parameters = cv2.aruco.DetectorParameters()
    parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    dictionary = cv2.aruco.getPredefinedDictionary(vars(cv2.aruco)[tags.dictionary])
    return cv2.aruco.ArucoDetector(dictionary, parameters)


def _undistorted(corners: np.ndarray, lens: Lens) -> np.ndarray:
    """Return the corners (4, 1, 2) in pixels as rays: x/z and y/z."""
    points, distortion = corners.astype(np.float64), np.array(lens.distortion, np.float64)
    if lens.model == "fisheye":
        if len(distortion) != 4:
            raise KinemaError(f"a fisheye lens has 4 numbers of distortion, got {len(distortion)}")
        return cv2.fisheye.undistortPoints(points, lens.matrix, distortion)
    return cv2.undistortPoints(points, lens.matrix, distortion if len(distortion) else None)


def _pose(rays: np.ndarray, size_m: float) -> np.ndarray:
    half = size_m / 2
    square = np.array([[-half, half, 0], [half, half, 0], [half, -half, 0], [-half, -half, 0]])
    _, turn, position = cv2.solvePnP(square, rays, np.eye(3), None, flags=cv2.SOLVEPNP_IPPE_SQUARE)
    return pose(position.ravel(), exp(turn.ravel()))
