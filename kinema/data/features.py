"""What a frozen encoder makes of a camera's frames, computed once and read from disk afterwards.

An encoder that is never trained gives the same features for the same frame in every epoch, unless the frame is changed
by an augmentation, which is why one is refused here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kinema.core.config import to_data
from kinema.core.errors import DataError, KinemaError, UnavailableError
from kinema.core.transform import Augmentation

Encode = Callable[[np.ndarray], np.ndarray]
"""(N, Hi, Wi, 3) uint8 to (N, ...) float32."""


def feature_key(*, weights: str, preprocessing: Any, frames: str, batch_size: int = 1) -> str:
    """Return the sha256 that names features: of the encoder's weights, what comes before it, and the frames.

    `weights` and `frames` are digests (of a dataset's content and the camera), `preprocessing` is configuration. The
    batch size is part of it, as it can change the last digits.
    """
    if not weights or not frames:
        raise KinemaError("features need the digests of the encoder's weights and of the frames")
    parts = {"weights": weights, "preprocessing": to_data(preprocessing), "frames": frames, "batch_size": batch_size}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def cached_features(
    folder: Path,
    frames: np.ndarray,
    encode: Encode,
    *,
    weights: str,
    preprocessing: Any,
    content: str,
    augmentations: Sequence[Augmentation] = (),
    batch_size: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Return the features of all `frames` (N, Hi, Wi, 3) uint8 as a read-only memory map (N, ...) float32.

    They are bit by bit what `encode` returns for `batch_size` frames at a time in order; 1 makes them those of each
    frame alone, whatever its neighbours. `content` is the digest of the frames. The file `<key>.npy` appears in
    `folder` when it is complete; of two processes that make it at once each makes all, and the later replaces the same.
    Raises KinemaError with augmentations: features of frames that change cannot be kept.
    """
    if augmentations:
        names = ", ".join(type(augmentation).__name__ for augmentation in augmentations)
        raise KinemaError(f"features cannot be cached while {names} changes the images: train without, or encode live")
    if frames.ndim != 4 or frames.dtype != np.uint8 or not len(frames) or batch_size < 1:
        raise KinemaError(f"frames {frames.shape} {frames.dtype} in batches of {batch_size}: expected (N, Hi, Wi, 3)")
    key = feature_key(weights=weights, preprocessing=preprocessing, frames=content, batch_size=batch_size)
    path = folder / f"{key}.npy"
    found = _opened(path, len(frames))
    if found is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _make(path, frames, encode, batch_size, progress)
        except OSError as error:
            raise UnavailableError(f"cannot keep features in {folder}: {error.strerror or error}") from error
        found = _opened(path, len(frames))
    if found is None:
        raise DataError(f"{path} was removed or cut short by somebody else: start again")
    return found


def _opened(path: Path, rows: int) -> np.ndarray | None:
    """Return the features at `path`, or None where there are none, or not all."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        features = np.load(path, mmap_mode="r")
        if features.dtype == np.float32 and len(features) == rows:
            return features
    return None


def _make(
    path: Path, frames: np.ndarray, encode: Encode, batch_size: int, progress: Callable[[int, int], None] | None
) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shape: tuple[int, ...] = ()
    try:
        # Written, not mapped: on a full disk a write is an error, a store through a map ends the process.
        with open(temporary, "wb") as file:
            for begin in range(0, len(frames), batch_size):
                batch = np.ascontiguousarray(frames[begin : begin + batch_size])
                features = np.asarray(encode(batch))
                if begin == 0:
                    shape = features.shape[1:]
                    _header(file, (len(frames), *shape))
                _check(features, (len(batch), *shape), begin)
                file.write(np.ascontiguousarray(features).data)
                if progress is not None:
                    progress(begin + len(batch), len(frames))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _header(file: Any, shape: tuple[int, ...]) -> None:
    header: Mapping[str, Any] = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, dict(header))


def _check(features: np.ndarray, expected: tuple[int, ...], row: int) -> None:
    if features.shape != expected or features.dtype != np.float32:
        raise KinemaError(f"the encoder returned {features.shape} {features.dtype}, expected {expected} float32")
    if not np.isfinite(features).all():
        raise KinemaError(f"the encoder's features are not finite at frame {row} or soon after")
