"""Camera trajectories, as a SLAM system wrote them.

SLAM is an input: nothing here estimates a camera's motion. Any system that writes one of the two formats will do.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from kinema.actions.poses import pose
from kinema.actions.rotations import matrix_from_quaternion_wxyz
from kinema.core.errors import DataError, KinemaError

_ORB_SLAM3 = ("timestamp", "is_lost", "x", "y", "z", "q_x", "q_y", "q_z", "q_w")


@dataclass(frozen=True, kw_only=True, eq=False)
class Trajectory:
    """Poses `T_world_camera` (N, 4, 4) at rising times `time_s` (N,); where `tracked` (N,) is False a pose is unknown.

    The world is the SLAM map's: metric and at rest, but placed anywhere.
    """

    time_s: np.ndarray
    T_world_camera: np.ndarray
    tracked: np.ndarray

    def __post_init__(self) -> None:
        count = len(self.time_s)
        if self.T_world_camera.shape != (count, 4, 4) or self.tracked.shape != (count,):
            raise DataError(
                f"a trajectory of {count} times, poses {self.T_world_camera.shape} and flags {self.tracked.shape}"
            )
        back = np.flatnonzero(np.diff(self.time_s) <= 0)
        if back.size:
            raise DataError(f"the trajectory's time does not rise after {self.time_s[back[0]]:.6f} s")

    def __len__(self) -> int:
        return len(self.time_s)


def read_orb_slam3(path: Path) -> Trajectory:
    """Return the trajectory of a CSV with the columns timestamp [s], is_lost, x, y, z [m] and q_x, q_y, q_z, q_w.

    This is `camera_trajectory.csv` of UMI's ORB-SLAM3. Further columns are left alone; in lost rows the pose is.
    """
    with _opened(path) as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise DataError(f"{path} holds no row")
    missing = [name for name in _ORB_SLAM3 if name not in rows[0]]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}; it has: {', '.join(rows[0])}")
    tracked = np.array([_tracked(row["is_lost"], path, line) for line, row in enumerate(rows, start=2)])
    columns = [name for name in _ORB_SLAM3 if name != "is_lost"]
    values = np.array([_numbers([row[name] for name in columns], path, n) for n, row in enumerate(rows, start=2)])
    return _trajectory(values, tracked, path)


def read_tum(path: Path) -> Trajectory:
    """Return the trajectory of lines "timestamp tx ty tz qx qy qz qw" [s, m]; what begins with # is a comment.

    The format has no flag: where tracking was lost its lines are absent, which shows as a gap in time.
    """
    with _opened(path) as file:
        lines = [(number, line.split()) for number, line in enumerate(file, start=1)]
    values = [_numbers(words, path, number) for number, words in lines if words and not words[0].startswith("#")]
    if not values:
        raise DataError(f"{path} holds no pose")
    return _trajectory(np.array(values), np.ones(len(values), bool), path)


def _trajectory(values: np.ndarray, tracked: np.ndarray, path: Path) -> Trajectory:
    """Return the trajectory of rows (N, 8): time, position, quaternion xyzw as both formats have it."""
    poses = np.broadcast_to(np.eye(4), (len(values), 4, 4)).copy()
    try:
        rotation = matrix_from_quaternion_wxyz(values[tracked][:, [7, 4, 5, 6]])
        poses[tracked] = pose(values[tracked, 1:4], rotation)
        return Trajectory(time_s=values[:, 0], T_world_camera=poses, tracked=tracked)
    except KinemaError as error:
        raise DataError(f"{path}: {error}") from error


def _tracked(lost: str, path: Path, line: int) -> bool:
    flags = {"false": True, "0": True, "true": False, "1": False}
    if (lost or "").strip().lower() not in flags:
        raise DataError(f"{path}, line {line}: is_lost is {lost!r}, expected true or false")
    return flags[lost.strip().lower()]


def _numbers(words: list[str], path: Path, line: int) -> list[float]:
    try:
        numbers = [float(word) for word in words]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != 8:
        raise DataError(f"{path}, line {line}: expected 8 numbers (time, position, quaternion), got {words!r:.120}")
    return numbers


def _opened(path: Path) -> TextIO:
    try:
        return open(path, encoding="utf-8", newline="")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
