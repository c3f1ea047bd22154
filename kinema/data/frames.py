"""One camera's frames by row of the dataset, decoded when they are first asked for."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kinema.core.spec import Camera
from kinema.data.decoding import VideoReader
from kinema.transforms.resize import Resize


class Reader(Protocol):
    """An open file of frames, as `VideoReader` is one."""

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (number, frame (Hi, Wi, 3) uint8 RGB) of the ascending `numbers` and of what is decoded with them."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class Opener(Protocol):
    """A file of frames that is no plain video."""

    def open(self, *, size: tuple[int, int], length: int) -> Reader:
        """Return its frames, which must be `length` of `size` (Hi, Wi)."""
        ...


Segments = Mapping[Any, Sequence[tuple[int, int, int]]]
"""Per video file (a `Path` or an `Opener`), which frames belong to which rows: (first frame, first row, length)."""

_OPEN_VIDEOS = 16
"""Videos that a thread keeps open per camera."""


class _Open(threading.local):
    """The videos that this thread has open, by their place in the list."""

    def __init__(self) -> None:
        self.videos: OrderedDict[int, Reader] = OrderedDict()


class Frames(ABC):
    """The frames of `camera` for `rows` rows; a subclass says where decoded ones are kept.

    What is read is the same whatever is kept: the frames of the videos, bit by bit, or what `resize` makes of each as
    soon as it is decoded. Several threads may read; each opens videos of its own.
    """

    def __init__(self, camera: Camera, segments: Segments, rows: int, *, resize: Resize | None = None) -> None:
        size = (camera.height, camera.width) if resize is None else (resize.height, resize.width)
        self.camera, self.resize, self.shape = camera, resize, (rows, *size, 3)
        self._paths = list(segments)
        self.parts = [np.arange(row, row + length) for parts in segments.values() for _, row, length in parts]
        """The rows of each episode."""
        self._video = np.full(rows, -1, np.int32)
        self._number = np.zeros(rows, np.int32)
        self._rows: list[np.ndarray] = []
        for place, parts in enumerate(segments.values()):
            row_of = np.full(sum(length for _, _, length in parts), -1, np.int64)
            for first, row, length in parts:
                self._video[row : row + length] = place
                self._number[row : row + length] = np.arange(first, first + length)
                # A part beyond the file's end finds no frame there, which is an error when it is read.
                row_of[first : first + length] = np.arange(row, row + length)[: max(0, len(row_of) - first)]
            self._rows.append(row_of)
        self._open = _Open()

    @abstractmethod
    def _load(self, rows: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Copy what is kept of `rows` (N,) into `out` (N, Hi, Wi, 3); returns which rows that were, (N,) bool."""

    @abstractmethod
    def _keep(self, row: int, image: np.ndarray) -> None:
        """Keep `image` (Hi, Wi, 3) as that of `row`."""

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the frames of `rows` (...) as a new array (..., Hi, Wi, 3) uint8; raises DataError for a bad video.

        Missing ones are decoded file by file, in order of time.
        """
        flat = np.ravel(rows)
        out = np.empty((flat.size, *self.shape[1:]), np.uint8)
        missing = np.flatnonzero(~self._load(flat, out))
        if missing.size:
            missing = missing[np.argsort(flat[missing], kind="stable")]
            wanted = flat[missing]
            for row, image in self._decoded(np.unique(wanted)):
                self._keep(row, image)
                out[missing[np.searchsorted(wanted, row) : np.searchsorted(wanted, row, "right")]] = image
        return out.reshape(*np.shape(rows), *self.shape[1:])

    def _decoded(self, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (row, image) of the distinct `rows`, and of the other rows that were decoded with them."""
        videos = self._video[rows]
        for place in np.unique(videos):
            row_of = self._rows[place]
            for number, image in self._reader(int(place)).read(np.sort(self._number[rows[videos == place]]).tolist()):
                if 0 <= number < len(row_of) and row_of[number] >= 0:
                    yield int(row_of[number]), image if self.resize is None else self.resize.image(image)

    def _reader(self, place: int) -> Reader:
        """Return this thread's open video, the least recently read one being closed for it."""
        known = self._open.videos
        if place not in known:
            if len(known) == _OPEN_VIDEOS:
                known.popitem(last=False)[1].close()
            known[place] = self._opened(place)
        known.move_to_end(place)
        return known[place]

    def check_videos(self, rows: np.ndarray) -> None:
        """Raise DataError unless the videos of `rows` say that they hold what the dataset says; decodes nothing."""
        for place in np.unique(self._video[rows]):
            self._opened(int(place)).close()

    def _opened(self, place: int) -> Reader:
        file, size, length = self._paths[place], (self.camera.height, self.camera.width), len(self._rows[place])
        if isinstance(file, Path):
            return VideoReader(file, size=size, length=length)
        opened: Reader = file.open(size=size, length=length)
        return opened
