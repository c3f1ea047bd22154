"""A folder of recordings: one folder each with its video and the trajectory that SLAM made of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np

from kinema.core.errors import DataError
from kinema.data.umi import gripper
from kinema.data.umi.episode import Demonstration
from kinema.data.umi.fiducials import detect, tag_distance
from kinema.data.umi.rig import Rig
from kinema.data.umi.trajectory import Trajectory, read_orb_slam3, read_tum

TRAJECTORIES = {"camera_trajectory.csv": read_orb_slam3, "trajectory.txt": read_tum}
"""File name -> reader; the times in it are those of the video, which begins at 0."""


def recordings(session: Path) -> tuple[Path, ...]:
    """Return the folders of `session` that hold an .mp4, by name; the mapping walk of UMI has no trajectory to use."""
    found = tuple(sorted({video.parent for video in session.glob("*/*.mp4")}))
    if not found:
        raise DataError(f"{session} holds no recordings: expected folders with one .mp4 and a trajectory each")
    return found


def read_demonstration(folder: Path, rig: Rig, instruction: str) -> Demonstration:
    """Return the demonstration in `folder`: pictures cut and scaled, finger tags measured, trajectory as it is.

    One frame at a time is held in full size. Raises DataError for a missing, doubled or broken file.
    """
    trajectory = _trajectory(folder)
    images, times, distances = [], [], []
    for at_s, frame in frames(_only(folder, "*.mp4")):
        distances.append(tag_distance(detect(frame, rig.lens, rig.tags), rig.tags))
        images.append(_middle(frame, rig.image_px))
        times.append(at_s)
    time_s = np.array(times)
    return Demonstration(
        instruction=instruction,
        name=folder.name,
        images=np.stack(images),
        image_time_s=time_s,
        trajectory=trajectory,
        width_m=gripper.widths(np.array(distances), rig.gripper),
        width_time_s=time_s,
    )


def frames(video: Path) -> Iterator[tuple[float, np.ndarray]]:
    """Yield each frame's time [s] from the first, and its (Hi, Wi, 3) uint8 RGB; a broken file is a DataError."""
    count, first = 0, 0.0
    try:
        with av.open(str(video)) as container:
            for frame in container.decode(video=0):
                if frame.time is None:
                    raise DataError(f"{video}: frame {count} has no presentation time")
                first = first if count else float(frame.time)
                count += 1
                yield float(frame.time) - first, frame.to_ndarray(format="rgb24")
    except (av.FFmpegError, IndexError) as error:
        raise DataError(f"{video} is not a complete video: {error}") from error
    if not count:
        raise DataError(f"{video} holds no frame")


def _middle(frame: np.ndarray, size: int) -> np.ndarray:
    """Return the largest square in the middle of `frame`, scaled to `size`."""
    height, width = frame.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = frame[top : top + side, left : left + side]
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if size < side else cv2.INTER_LINEAR)


def _trajectory(folder: Path) -> Trajectory:
    found = [name for name in TRAJECTORIES if (folder / name).is_file()]
    if len(found) != 1:
        raise DataError(f"{folder} holds {len(found)} trajectories, expected one of: {', '.join(TRAJECTORIES)}")
    return TRAJECTORIES[found[0]](folder / found[0])


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise DataError(f"{folder} holds {len(found)} files {pattern}, expected one")
    return found[0]
