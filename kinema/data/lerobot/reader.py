"""A LeRobotDataset directory as arrays: strict checks, columns in memory, images from a cache of decoded frames."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kinema.core.config import to_data
from kinema.core.errors import DataError, unknown
from kinema.core.spec import Camera, RobotSpec
from kinema.data.cached_frames import CachedFrames, Progress
from kinema.data.cards import Card
from kinema.data.frames import Segments
from kinema.data.importers.lerobot import TASK
from kinema.data.lerobot import layout
from kinema.data.lerobot.cache import content_hash
from kinema.data.lerobot.meaning import Meaning, meaning
from kinema.data.lerobot.pictures import frame_files
from kinema.data.lerobot.rows import read_columns
from kinema.data.lerobot.versions import View, read_view
from kinema.transforms.resize import Resize

_TIMING = (layout.CAPTURED, layout.VALID)


@dataclass(frozen=True, kw_only=True)
class EpisodeRecord:
    """One episode's place in the dataset: rows `start` to `start + length`."""

    index: int
    length: int
    start: int
    instruction: str
    origin: Mapping[str, str | int | float]
    success: bool


class Dataset:
    """A checked dataset of N rows in `episodes`; rows of an episode are contiguous and in order."""

    def __init__(self, root: Path, *, progress: Progress | None, cache: Path | None, card: Card | Path | None) -> None:
        self.root = root
        self.view = read_view(root)
        self.meaning = meaning(self.view, card)
        self.spec: RobotSpec = self.meaning.spec
        self.codec: Any = self.meaning.codec
        """The VideoCodec that its videos were made with, None for a foreign dataset."""
        self.provenance = self.meaning.provenance
        self.fps = self.view.fps
        self.tasks = self.view.tasks
        self._progress, self.cache = progress, cache or root / ".cache"
        """`cache` is the folder of what is computed from the dataset: decoded frames, features, hashes."""
        self._columns, others = _read(self.view, self.meaning)
        self.task_index = others["task_index"].reshape(-1)
        self._texts = others.get(self.meaning.instruction.removeprefix("field:"))
        self._timing = {name: values.reshape(-1) for name, values in others.items() if name.startswith(_TIMING)}
        self.episodes = self._records()
        self._videos: dict[tuple[str, Resize | None], CachedFrames] = {}

    def __len__(self) -> int:
        return len(self.task_index)

    @cached_property
    def content_hash(self) -> str:
        """The sha256 of the committed files' sorted relative paths and contents: which bytes a training run saw.

        A card, which says what they mean, is part of it.
        """
        files = content_hash(self.root, self.view.files, self.cache)
        if self.meaning.card is None:
            return files
        return hashlib.sha256(f"{files}{json.dumps(to_data(self.meaning.card), sort_keys=True)}".encode()).hexdigest()

    @cached_property
    def instructions(self) -> np.ndarray:
        """The instruction of every row, (N,) of str."""
        said = self.meaning.instruction
        if not said.startswith("field:"):
            return np.full(len(self), said, dtype=object)
        if self._texts is not None:
            return self._texts
        texts: np.ndarray = np.array(self.tasks, dtype=object)[self.task_index]
        return texts

    def column(self, key: str) -> np.ndarray:
        """Return all rows of a vector or the action, (N, D) float32, contiguous and read-only."""
        if key not in self._columns:
            raise unknown("column", key, self._columns)
        return self._columns[key]

    def captured_ns(self, key: str) -> np.ndarray | None:
        """Return when each row of a key was captured, (N,) int64 [ns], monotonic; None where it is not known."""
        found = [self._timing.get(layout.CAPTURED + feature) for feature in self._features(key)]
        times = [values for values in found if values is not None]
        return np.minimum.reduce(times) if times and len(times) == len(found) else None

    def valid(self, key: str) -> np.ndarray:
        """Return which rows of a key are its own and do not repeat the row before, (N,) bool."""
        found = [self._timing.get(layout.VALID + feature) for feature in self._features(key)]
        return np.logical_and.reduce([np.ones(len(self), bool), *(values for values in found if values is not None)])

    def images(self, camera: str) -> np.ndarray:
        """Return all frames of a camera (its name or `image.<name>`), (N, Hi, Wi, 3) uint8, a read-only memory map.

        Every video that is not in the cache yet is decoded; raises DataError when one does not hold exactly its rows.
        """
        return self.frames(camera).fill(self._progress)

    def frames(self, camera: str, *, resize: Resize | None = None) -> CachedFrames:
        """Return the frames of a camera (its name or `image.<name>`), decoded when asked for and kept in the cache.

        With `resize` they are resized as soon as they are decoded, and kept so. Raises DataError when a video is
        missing, cut short or says that it does not hold exactly its rows.
        """
        item, segments = self.videos(camera)
        known = (item.name, resize)
        if known not in self._videos:
            frames = CachedFrames(self.cache / self.content_hash[:16], item, segments, len(self), resize=resize)
            frames.check_videos(frames.missing())
            self._videos[known] = frames
        return self._videos[known]

    def videos(self, camera: str) -> tuple[Camera, Segments]:
        """Return a camera by its name or `image.<name>`, and where in the files its frames are."""
        name = camera.removeprefix("image.")
        cameras = {item.name: item for item in self.spec.observation.cameras}
        if name not in cameras:
            raise unknown("camera", name, cameras)
        card = self.meaning.cameras[name]
        files = frame_files(self.view, card.field, turned=card.turned_deg == 180, bgr=card.channels == "bgr")
        return cameras[name], files

    def _features(self, key: str) -> tuple[str, ...]:
        if key not in self.meaning.features:
            raise unknown("key", key, self.meaning.features)
        return self.meaning.features[key]

    def _records(self) -> tuple[EpisodeRecord, ...]:
        return tuple(
            EpisodeRecord(
                index=row.index,
                length=row.length,
                start=row.start,
                instruction=str(self.instructions[row.start]),
                origin=row.origin or {},
                success=success,
            )
            for row, success in zip(self.view.episodes, self.meaning.successes, strict=True)
        )


def open_dataset(
    root: Path, *, card: Card | Path | None = None, progress: Progress | None = None, cache: Path | None = None
) -> Dataset:
    """Return the dataset at `root`, checked; raises DataError saying what is wrong with it.

    A dataset that kinema did not write needs a `card` (or the path of its JSON) that says what its features mean.
    `progress(camera, done, total)` is told of episodes decoded while the image cache is built; the cache lies in
    `<root>/.cache` unless `cache` names another folder (for a read-only dataset).
    """
    return Dataset(Path(root), progress=progress, cache=cache, card=card)


def _read(view: View, said: Meaning) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the vectors and the action by key, and the task's number, texts and capture times by feature."""
    numbers = {key: features for key, features in said.features.items() if not key.startswith("image.")}
    others = [prefix + f for prefix in _TIMING for features in said.features.values() for f in features]
    others = [name for name in others if name in view.features]
    text = said.instruction.removeprefix("field:")
    if said.instruction.startswith("field:") and text != TASK:
        others.append(text)
    columns = read_columns(view, [*(name for features in numbers.values() for name in features), *others])
    matrices = {key: _matrix(view, features, columns) for key, features in numbers.items()}
    return matrices, {name: columns[name] for name in [*others, "task_index"]}


def _matrix(view: View, features: tuple[str, ...], columns: Mapping[str, np.ndarray]) -> np.ndarray:
    for name in features:
        finite = np.isfinite(columns[name]).reshape(len(columns[name]), -1).all(axis=1)
        if not finite.all():
            raise DataError(f"{view.root}: column {name!r} is not finite at row {int(np.flatnonzero(~finite)[0])}")
    parts = [columns[name].reshape(len(columns[name]), -1).astype(np.float32, copy=False) for name in features]
    matrix = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    matrix.setflags(write=False)
    return matrix
