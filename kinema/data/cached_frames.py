"""Decoded frames on disk, so that a frame is decoded once and later epochs read memory instead of video."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np

from kinema.core.errors import DataError, UnavailableError
from kinema.core.files import write_bytes
from kinema.core.manifest import cores
from kinema.core.spec import Camera
from kinema.data.frames import Frames, Segments
from kinema.transforms.resize import Resize

Progress = Callable[[str, int, int], None]
"""Told (camera, episodes decoded, episodes in all)."""

_FLUSH_BYTES = 256 * 2**20


class CachedFrames(Frames):
    """Frames kept in `folder/image.<camera>.u8` (rows, Hi, Wi, 3), each as soon as it is decoded.

    Resized ones are kept at their own size in a file whose name says size and method, `image.<camera>@<key>.u8`. The
    file `.rows` beside it has a byte per row, 1 once that row's frame is safely on disk: a killed process, a
    power cut or several processes at once cost at most that frames are decoded again. Caches of other contents are
    removed when a new one is begun. A full or read-only disk is UnavailableError; a complete cache is only read.
    """

    def __init__(
        self, folder: Path, camera: Camera, segments: Segments, rows: int, *, resize: Resize | None = None
    ) -> None:
        super().__init__(camera, segments, rows, resize=resize)
        self.path = folder / (f"{camera.key}.u8" if resize is None else f"{camera.key}@{resize.key}.u8")
        with reported(folder):
            self._store = _Store(self.path, rows, int(np.prod(self.shape[1:])))
        weakref.finalize(self, self._store.close)

    def missing(self) -> np.ndarray:
        """Return the rows that are not kept yet, ascending."""
        return np.flatnonzero(~self._store.has(np.arange(len(self))))

    def fill(self, progress: Progress | None = None) -> np.ndarray:
        """Return all frames as a read-only memory map, after decoding what is missing with a thread per core."""
        missing = self.missing()
        if missing.size:
            self.check_videos(missing)
            parts = [rows for part in self.parts if (rows := np.intersect1d(part, missing)).size]
            with ThreadPoolExecutor(cores(), "decode") as pool:
                futures = [pool.submit(self._fill, rows) for rows in parts]
                try:
                    for done, future in enumerate(as_completed(futures), start=1 + len(self.parts) - len(parts)):
                        future.result()
                        if progress is not None:
                            progress(self.camera.key, done, len(self.parts))
                finally:
                    pool.shutdown(cancel_futures=True)
            self.flush()
        return np.memmap(self.path, np.uint8, "r", shape=self.shape)

    def flush(self) -> None:
        """Note what was decoded as kept for later processes, after it is on disk."""
        with reported(self.path.parent):
            self._store.flush()

    def _fill(self, rows: np.ndarray) -> None:
        for row, image in self._decoded(rows):
            self._keep(row, image)

    def _load(self, rows: np.ndarray, out: np.ndarray) -> np.ndarray:
        have = self._store.has(rows)
        places = np.flatnonzero(have)
        if places.size:
            # Neighbours in both come in one piece: the steps of a window are neighbours.
            jumps = (np.diff(places) != 1) | (np.diff(rows[places]) != 1)
            for piece in np.split(places, np.flatnonzero(jumps) + 1):
                target = out[piece[0] : piece[-1] + 1]
                if self._store.read(target, int(rows[piece[0]])) != target.nbytes:
                    raise DataError(f"{self.path} was cut short by somebody else: remove it and start again")
        return have

    def _keep(self, row: int, image: np.ndarray) -> None:
        with reported(self.path.parent):
            self._store.write(row, image)


class _Store:
    """The file of frames and the file of which rows are in it."""

    def __init__(self, path: Path, rows: int, stride: int) -> None:
        index = path.with_suffix(".rows")
        self._stride, self._lock, self._flushing = stride, threading.Lock(), threading.Lock()
        self._here = np.zeros(rows, bool)
        self._fresh: list[int] = []
        self._error: OSError | None = None
        if not _whole(path, index, rows, stride):
            _begin(path, index, rows, stride)
        self._kept = np.memmap(index, np.uint8, "r", shape=(rows,))
        missing = int((self._kept == 0).sum())
        if missing:
            _check_space(path.parent, missing * stride)
        flags = os.O_RDWR if missing else os.O_RDONLY
        self._files = [os.open(path, flags), os.open(index, flags)]

    def has(self, rows: np.ndarray) -> np.ndarray:
        """Return which of `rows` can be read: kept by whoever, or decoded here a moment ago."""
        return self._here[rows] | (self._kept[rows] == 1)

    def read(self, target: np.ndarray, row: int) -> int:
        """Fill `target` from `row` on; returns how many bytes there were."""
        # Read, not mapped: what is resident stays what the batches need, however large the file is.
        flat, done = target.reshape(-1), 0
        # One call reads at most 2 GiB.
        while done < flat.size and (count := os.preadv(self._files[0], [flat[done:].data], row * self._stride + done)):
            done += count
        return done

    def write(self, row: int, image: np.ndarray) -> None:
        """Write `image` as that of `row`."""
        # Written, not mapped: on a full disk a write is an error, a store through a map ends the process.
        if os.pwrite(self._files[0], image.data, row * self._stride) != self._stride:
            raise OSError("no space left for a whole frame")
        with self._lock:
            self._here[row] = True
            self._fresh.append(row)
            much = len(self._fresh) * self._stride >= _FLUSH_BYTES
        if self._error is not None:
            raise self._error
        if much and not self._flushing.locked():
            threading.Thread(target=self._flush_behind, name="flush").start()

    def flush(self) -> None:
        """Mark the rows written since the last time, after their frames are on disk."""
        with self._flushing:
            with self._lock:
                fresh, self._fresh = self._fresh, []
            if fresh:
                os.fsync(self._files[0])
                for row in fresh:
                    os.pwrite(self._files[1], b"\1", row)

    def close(self) -> None:
        """Flush and close the files; what a failing disk loses is decoded again another time."""
        with contextlib.suppress(OSError):
            self.flush()
        for file in self._files:
            os.close(file)
        self._files = []

    def _flush_behind(self) -> None:
        try:
            self.flush()
        except OSError as error:
            self._error = error


@contextlib.contextmanager
def reported(folder: Path) -> Iterator[None]:
    """Turn failures of the disk below `folder` into UnavailableError."""
    try:
        yield
    except OSError as error:
        raise UnavailableError(f"cannot keep decoded frames in {folder}: {error.strerror or error}") from error


def _whole(path: Path, index: Path, rows: int, stride: int) -> bool:
    return path.is_file() and index.is_file() and (path.stat().st_size, index.stat().st_size) == (rows * stride, rows)


def _begin(path: Path, index: Path, rows: int, stride: int) -> None:
    """Make both files, with no row in them; another process may do so at the same time."""
    if not path.is_file():
        _drop_others(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    # In this order a crash in between leaves nothing that looks decoded.
    write_bytes(index, bytes(rows))
    with open(path, "ab") as file:
        file.truncate(rows * stride)


def _check_space(folder: Path, needed: int) -> None:
    if needed > (free := shutil.disk_usage(folder).free):
        raise UnavailableError(
            f"cannot keep decoded frames in {folder}: they need {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are "
            f"free\nfix: name a folder with more space as cache, or stream the dataset (kinema.data.stream)"
        )


def _drop_others(folder: Path) -> None:
    """Delete caches of other contents; a folder that holds anything but decoded frames is not ours and stays."""
    for other in folder.parent.iterdir() if folder.parent.is_dir() else ():
        ours = re.fullmatch(r"[0-9a-f]{16}", other.name) and other.is_dir() and other != folder
        if ours and all(re.fullmatch(r"\.?image\..*\.(u8|rows|tmp)", path.name) for path in other.iterdir()):
            shutil.rmtree(other, ignore_errors=True)
