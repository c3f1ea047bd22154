"""What a dataset's bytes are, and its decoded frames on disk, so that later epochs read memory instead of video."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from kinema.core.errors import DataError, KinemaError, UnavailableError
from kinema.core.files import write_text
from kinema.core.spec import Camera
from kinema.data.video import decode

Progress = Callable[[str, int, int], None]
"""Told (camera, episodes decoded, episodes in all)."""


def content_hash(root: Path, files: Sequence[Path], cache: Path) -> str:
    """Return the sha256 over the relative paths and contents of `files`, in order.

    A file is read again only when its size or modification time differs from the last time.
    """
    known = _known_hashes(cache / "hashes.json")
    hashes: dict[str, list[int | str]] = {}
    total = hashlib.sha256()
    for path in files:
        name = path.relative_to(root).as_posix()
        try:
            status = path.stat()
            entry = known.get(name)
            if entry is None or entry[:2] != [status.st_size, status.st_mtime_ns]:
                entry = [status.st_size, status.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()]
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from error
        hashes[name] = entry
        total.update(f"{name}\0{entry[2]}\n".encode())
    if hashes != known:
        # Only a shortcut for the next time: a dataset on a read-only disk is hashed in full each time.
        with contextlib.suppress(OSError, KinemaError):
            cache.mkdir(parents=True, exist_ok=True)
            write_text(cache / "hashes.json", json.dumps(hashes))
    return total.hexdigest()


def _known_hashes(path: Path) -> dict[str, list[int | str]]:
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def decoded_frames(
    folder: Path,
    camera: Camera,
    segments: Mapping[Path, Sequence[tuple[int, int, int]]],
    rows: int,
    progress: Progress | None,
) -> np.ndarray:
    """Return the camera's frames (rows, Hi, Wi, 3) uint8 as a read-only memory map of `folder/image.<camera>.u8`.

    `segments` says, per video file, which frames belong to which rows: (first frame, first row, length). The file
    appears under its name only when it is complete; caches of other contents are removed when a new one is built.
    """
    shape = (rows, camera.height, camera.width, 3)
    path = folder / f"{camera.key}.u8"
    size = int(np.prod(shape, dtype=np.int64))
    try:
        if not path.is_file() or path.stat().st_size != size:
            _drop_others(folder)
            folder.mkdir(parents=True, exist_ok=True)
            _decode_all(path, shape, camera, segments, progress)
        return np.memmap(path, np.uint8, "r", shape=shape)
    except OSError as error:
        raise UnavailableError(f"cannot keep decoded frames in {folder}: {error.strerror or error}") from error


def _decode_all(
    path: Path,
    shape: tuple[int, ...],
    camera: Camera,
    segments: Mapping[Path, Sequence[tuple[int, int, int]]],
    progress: Progress | None,
) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    total, done = sum(len(parts) for parts in segments.values()), 0
    stride = int(np.prod(shape[1:]))
    try:
        # Written, not mapped: on a full disk a write is an error, a store through a map ends the process.
        with open(temporary, "wb") as target:
            for video, parts in segments.items():
                frames = decode(video, size=(camera.height, camera.width))
                expected = sum(length for _, _, length in parts)
                if len(frames) != expected:
                    raise DataError(f"{video} holds {len(frames)} frames, its episodes have {expected} rows")
                for first, row, length in parts:
                    if first + length > len(frames):
                        raise DataError(f"{video}: row {row} is frame {first} of {len(frames)} and needs {length}")
                    target.seek(row * stride)
                    target.write(np.ascontiguousarray(frames[first : first + length]).data)
                    done += 1
                if progress is not None:
                    progress(camera.key, done, total)
            target.flush()
            os.fsync(target.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _drop_others(folder: Path) -> None:
    """Delete caches of other contents; a folder that holds anything but decoded frames is not ours and stays."""
    if not folder.parent.is_dir():
        return
    for other in folder.parent.iterdir():
        ours = re.fullmatch(r"[0-9a-f]{16}", other.name) and other.is_dir() and other != folder
        if ours and all(re.fullmatch(r"\.?image\..*\.(u8|tmp)", path.name) for path in other.iterdir()):
            shutil.rmtree(other, ignore_errors=True)
