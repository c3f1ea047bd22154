"""Datasets of any size in bounded memory: frames are decoded shortly before use, held for a while and dropped."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from kinema.core.errors import KinemaError
from kinema.core.spec import Camera
from kinema.data.frames import Frames, Segments
from kinema.data.lerobot.reader import Dataset
from kinema.data.loader import Augment, Loader
from kinema.data.shuffle import Epochs, LocalShuffle
from kinema.data.windows import Windows
from kinema.transforms.resize import Resize

_SLACK = 1.5
"""Frames held per window of spread: batches that are prepared ahead, and what is decoded along with what is wanted."""


class HeldFrames(Frames):
    """Frames of which the `capacity` decoded last are held in memory; one that is gone is decoded again."""

    def __init__(
        self, camera: Camera, segments: Segments, rows: int, *, capacity: int, resize: Resize | None = None
    ) -> None:
        super().__init__(camera, segments, rows, resize=resize)
        self.decoded = 0
        """How many frames were decoded, repeatedly decoded ones included."""
        self._images = np.empty((min(capacity, rows), *self.shape[1:]), np.uint8)
        self._row_in = np.full(len(self._images), -1, np.int64)
        self._place_of = np.full(rows, -1, np.int32)
        self._next = 0
        self._lock = threading.Lock()

    def _load(self, rows: np.ndarray, out: np.ndarray) -> np.ndarray:
        # Locked while it copies: another thread may be about to reuse the place.
        with self._lock:
            places = self._place_of[rows]
            held = places >= 0
            for target, place in zip(np.flatnonzero(held), places[held], strict=True):
                out[target] = self._images[place]
        return held

    def _keep(self, row: int, image: np.ndarray) -> None:
        with self._lock:
            self.decoded += 1
            if self._place_of[row] >= 0:
                return
            place, self._next = self._next, (self._next + 1) % len(self._images)
            if self._row_in[place] >= 0:
                self._place_of[self._row_in[place]] = -1
            self._images[place] = image
            self._row_in[place], self._place_of[row] = row, place


def stream(
    dataset: Dataset,
    *,
    obs_horizon: int,
    pred_horizon: int,
    batch_size: int,
    seed: int,
    memory_bytes: int = 2 * 2**30,
    chunk: int = 16,
    episodes: Sequence[int] | None = None,
    keys: Sequence[str] | None = None,
    resize: Resize | None = None,
    augment: Augment | None = None,
    prefetch: int = 4,
) -> Loader:
    """Return a loader that writes no frame to disk and holds at most `memory_bytes` of decoded ones.

    It shuffles locally (`LocalShuffle`, chunks of `chunk` windows) over as many windows as the memory allows; every
    window comes once an epoch, with the same content as from the cache. With `resize` frames are held at that size.
    Vectors and actions are in memory whole. Where
    videos have more frames a key frame than a chunk has windows, frames are decoded repeatedly: choose larger chunks.
    """
    observation = dataset.spec.observation if keys is None else dataset.spec.observation.select(tuple(keys))
    cameras = (observation if resize is None else resize.observed(observation)).cameras
    frame = sum(3 * camera.height * camera.width for camera in cameras)
    capacity = memory_bytes // max(1, frame)
    least = 2 * batch_size * obs_horizon
    if capacity < least:
        raise KinemaError(
            f"memory_bytes {memory_bytes}: room for {capacity} frames, batches of {batch_size} need {least}: "
            f"{least * frame} bytes"
        )

    def held(camera: str) -> HeldFrames:
        return HeldFrames(*dataset.videos(camera), len(dataset), capacity=capacity, resize=resize)

    windows = Windows(
        dataset, obs_horizon=obs_horizon, pred_horizon=pred_horizon, episodes=episodes, keys=keys, frames=held
    )
    order = LocalShuffle(windows.lengths, spread=max(1, int(capacity / _SLACK)), chunk=chunk)
    draws = Epochs(len(windows), batch_size=batch_size, seed=seed, order=order)
    return Loader(windows, batch_size=batch_size, seed=seed, augment=augment, prefetch=prefetch, draws=draws)
