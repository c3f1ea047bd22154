"""One episode on its way to a dataset: a folder in `.staging/` where its videos grow frame by frame."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TextIO

import numpy as np

from kinema.core.spec import Camera, RobotSpec
from kinema.data.lerobot import layout
from kinema.data.lerobot.episode_stats import FeatureStats, of_images
from kinema.data.lerobot.files import reported
from kinema.data.video import VideoCodec, VideoStream

_MOST_SAMPLES, _SAMPLED_SIDE = 200, 150


class Draft:
    """The files of one episode that is not committed yet, and the lock that keeps other writers away meanwhile."""

    def __init__(self, folder: Path, lock: TextIO, spec: RobotSpec, codec: VideoCodec) -> None:
        self.folder, self._lock = folder, lock
        fps = layout.frames_per_second(spec)
        self.videos = {camera.key: DraftVideo(folder, camera, fps, codec) for camera in spec.observation.cameras}

    def give_up(self) -> None:
        """Close what is open; the files stay where they are."""
        for video in self.videos.values():
            video.give_up()

    def release(self) -> None:
        """Let other writers in."""
        self._lock.close()


class DraftVideo:
    """One camera's growing video; one thread at a time may use it.

    A disk that fails is UnavailableError.
    """

    def __init__(self, folder: Path, camera: Camera, fps: int, codec: VideoCodec) -> None:
        self.path = folder / f"{layout.feature_key(camera.key)}.mp4"
        self.black = np.zeros((camera.height, camera.width, 3), np.uint8)
        self._step = -(-max(camera.height, camera.width) // _SAMPLED_SIDE)
        self._samples: list[np.ndarray] = []
        self._stride, self._finished = 1, False
        with reported(self.path):
            self._file = open(self.path, "wb")  # noqa: SIM115 - closed by finish or give_up
        self._stream = VideoStream(self._file, camera.height, camera.width, fps, codec)

    def __len__(self) -> int:
        return len(self._stream)

    def write(self, image: np.ndarray) -> None:
        """Append one image (Hi, Wi, 3) uint8 RGB."""
        if len(self) % self._stride == 0:
            self._samples.append(image[:: self._step, :: self._step].copy())
            if len(self._samples) > _MOST_SAMPLES:
                # The episode's length is not known yet: evenly spaced samples stay so when every other is dropped.
                self._samples, self._stride = self._samples[::2], self._stride * 2
        with reported(self.path):
            self._stream.write(image)

    def finish(self) -> None:
        """Complete the video and flush it to disk; a second call does nothing."""
        if self._finished:
            return
        with reported(self.path):
            self._stream.finish()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        self._finished = True

    def give_up(self) -> None:
        """Close the file, complete or not."""
        if not self._finished:
            self._stream.give_up()
            self._finished = True
            # Closing writes what is still buffered, perhaps to a full disk: it is given up anyway.
            with contextlib.suppress(OSError):
                self._file.close()

    def stats(self) -> FeatureStats:
        """Return the statistics of at most 200 evenly spaced frames."""
        return of_images(np.stack(self._samples))
