"""A LeRobotDataset v3.0 directory as arrays: strict checks, columns in memory, images from a decoded-frame cache."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kinema.core.errors import DataError, unknown
from kinema.core.spec import ACTION, RobotSpec
from kinema.data.lerobot import layout
from kinema.data.lerobot.cache import Progress, content_hash, decoded_frames
from kinema.data.lerobot.files import read_table
from kinema.data.lerobot.tables import EPISODE_COLUMNS, read_episodes, read_tasks


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

    def __init__(self, root: Path, *, progress: Progress | None, cache: Path | None) -> None:
        self.root = root
        info = layout.read_info(root)
        stored = layout.read_kinema(root)
        self.spec: RobotSpec = stored["spec"]
        self.codec = stored["codec"]
        self.provenance: tuple[Mapping[str, Any], ...] = tuple(stored["provenance"])
        self.fps: int = info["fps"]
        if info["total_episodes"] == 0:
            raise DataError(f"{root} has 0 episodes: nothing was recorded yet")
        _check_features(root, info, self.spec, self.codec)
        self._progress, self._cache = progress, cache or root / ".cache"
        self._rows = read_episodes(root, info["total_episodes"], _columns(self.spec))
        self.episodes = tuple(_record(row) for row in self._rows)
        _check_lengths(root, self.episodes, info["total_frames"])
        self.tasks = read_tasks(root, info["total_tasks"])
        self._columns = _read_columns(root, self._rows, self.spec)
        self.task_index = self._columns.pop("task_index")
        if self.task_index.min() < 0 or self.task_index.max() >= len(self.tasks):
            raise DataError(
                f"{root}: task_index {int(self.task_index.max())} is not in the table of {len(self.tasks)} tasks"
            )
        self._videos: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.task_index)

    @cached_property
    def content_hash(self) -> str:
        """The sha256 of the committed files' sorted relative paths and contents: which bytes a training run saw."""
        return content_hash(self.root, self._files(), self._cache)

    @cached_property
    def instructions(self) -> np.ndarray:
        """The instruction of every row, (N,) of str."""
        texts: np.ndarray = np.array(self.tasks, dtype=object)[self.task_index]
        return texts

    def column(self, key: str) -> np.ndarray:
        """Return all rows of a vector or the action, (N, D) float32, contiguous and read-only."""
        if key not in self._columns:
            raise unknown("column", key, self._columns)
        return self._columns[key]

    def images(self, camera: str) -> np.ndarray:
        """Return all frames of a camera (its name or `image.<name>`), (N, Hi, Wi, 3) uint8, a read-only memory map.

        The first call decodes every video into the cache; raises DataError when a video does not hold exactly its rows.
        """
        name = camera.removeprefix("image.")
        cameras = {item.name: item for item in self.spec.observation.cameras}
        if name not in cameras:
            raise unknown("camera", name, cameras)
        if name not in self._videos:
            folder = self._cache / self.content_hash[:16]
            segments = self._segments(cameras[name].key)
            self._videos[name] = decoded_frames(folder, cameras[name], segments, len(self), self._progress)
        return self._videos[name]

    def _segments(self, key: str) -> dict[Path, list[tuple[int, int, int]]]:
        """Return, per video file, the episodes in it as (first frame in the file, first row, length)."""
        prefix = f"videos/{layout.feature_key(key)}"
        segments: dict[Path, list[tuple[int, int, int]]] = {}
        for row, episode in zip(self._rows, self.episodes, strict=True):
            first = round(row[f"{prefix}/from_timestamp"] * self.fps)
            segments.setdefault(_video(self.root, row, key), []).append((first, episode.start, episode.length))
        return segments

    def _files(self) -> list[Path]:
        files = {self.root / name for name in (layout.INFO, layout.TASKS, layout.KINEMA, layout.STATS)}
        for row in self._rows:
            files.add(self.root / _place(layout.DATA_PATH, row, "data"))
            files.add(self.root / _place(layout.EPISODES_PATH, row, "meta/episodes"))
            files.update(_video(self.root, row, camera.key) for camera in self.spec.observation.cameras)
        return sorted(files)


def open_dataset(root: Path, *, progress: Progress | None = None, cache: Path | None = None) -> Dataset:
    """Return the dataset at `root`, checked; raises DataError saying what is wrong with it.

    `progress(camera, done, total)` is told of episodes decoded while the image cache is built; the cache lies in
    `<root>/.cache` unless `cache` names another folder (for a read-only dataset).
    """
    return Dataset(Path(root), progress=progress, cache=cache)


def _columns(spec: RobotSpec) -> list[str]:
    columns = [*EPISODE_COLUMNS, "meta/episodes/chunk_index", "meta/episodes/file_index"]
    columns += [layout.ORIGIN_COLUMN, layout.SUCCESS_COLUMN]
    for camera in spec.observation.cameras:
        prefix = f"videos/{layout.feature_key(camera.key)}"
        columns += [f"{prefix}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")]
    return columns


def _record(row: Mapping[str, Any]) -> EpisodeRecord:
    return EpisodeRecord(
        index=row["episode_index"],
        length=row["length"],
        start=row["dataset_from_index"],
        instruction=row["tasks"][0],
        origin=json.loads(row[layout.ORIGIN_COLUMN]),
        success=row[layout.SUCCESS_COLUMN],
    )


def _place(pattern: str, row: Mapping[str, Any], prefix: str, **names: str) -> str:
    return pattern.format(chunk_index=row[f"{prefix}/chunk_index"], file_index=row[f"{prefix}/file_index"], **names)


def _video(root: Path, row: Mapping[str, Any], key: str) -> Path:
    feature = layout.feature_key(key)
    return root / _place(layout.VIDEO_PATH, row, f"videos/{feature}", video_key=feature)


def _check_features(root: Path, info: Mapping[str, Any], spec: RobotSpec, codec: Any) -> None:
    expected = layout.info(spec, codec, episodes=0, frames=0, tasks=0)
    if info["fps"] != expected["fps"]:
        raise DataError(f"{root}: info.json says {info['fps']} fps, the spec {expected['fps']}")
    for name in ("data_path", "video_path"):
        if info.get(name) != expected[name]:
            raise DataError(f"{root}: info.json says {name} {info.get(name)!r}, expected {expected[name]!r}")
    have = info.get("features", {})
    for name, feature in expected["features"].items():
        if name not in have:
            raise DataError(f"{root}: info.json has no feature {name!r}, which the spec in {layout.KINEMA} has")
        if have[name].get("shape") != feature["shape"] or have[name].get("dtype") != feature["dtype"]:
            raise DataError(
                f"{root}: feature {name!r} is {have[name].get('dtype')} {have[name].get('shape')} in info.json, "
                f"{feature['dtype']} {feature['shape']} in the spec"
            )


def _check_lengths(root: Path, episodes: tuple[EpisodeRecord, ...], total: int) -> None:
    start = 0
    for episode in episodes:
        if episode.start != start or episode.length < 1:
            raise DataError(f"{root}: episode {episode.index} starts at row {episode.start}, expected {start}")
        start += episode.length
    if start != total:
        raise DataError(f"{root}: the episodes have {start} rows, info.json counts {total}")


def _read_columns(root: Path, rows: list[dict[str, Any]], spec: RobotSpec) -> dict[str, np.ndarray]:
    keys = {layout.feature_key(key): key for key in layout.widths(spec)}
    names = [*keys, "task_index", "episode_index", "frame_index", "index"]
    paths = dict.fromkeys(_place(layout.DATA_PATH, row, "data") for row in rows)
    table = pa.concat_tables([read_table(root / path, names) for path in paths]).combine_chunks()
    total = rows[-1]["dataset_to_index"]
    lengths = np.array([row["length"] for row in rows])
    starts = np.array([row["dataset_from_index"] for row in rows])
    expected = {
        "index": np.arange(total),
        "episode_index": np.repeat(np.arange(len(rows)), lengths),
        "frame_index": np.arange(total) - np.repeat(starts, lengths),
    }
    for name, values in expected.items():
        found = table[name].to_numpy()
        if not np.array_equal(found, values):
            raise DataError(
                f"{root}: column {name!r} of the data files ({len(found)} rows) is not what the episodes ({total}) say"
            )
    columns = {key: _matrix(root, name, table[name], spec, key) for name, key in keys.items()}
    return columns | {"task_index": table["task_index"].to_numpy()}


def _matrix(root: Path, name: str, column: pa.ChunkedArray, spec: RobotSpec, key: str) -> np.ndarray:
    width = spec.action.width if key == ACTION else spec.observation.shape(key)[0]
    kind = column.type
    flat = column.combine_chunks().flatten() if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) else column
    values = flat.to_numpy()
    if flat.type != pa.float32() or values.size != width * len(column):
        raise DataError(
            f"{root}: column {name!r} is {kind} with {values.size} values, expected {len(column)} x {width} float32"
        )
    if not np.isfinite(values).all():
        raise DataError(
            f"{root}: column {name!r} is not finite at row {int(np.flatnonzero(~np.isfinite(values))[0]) // width}"
        )
    matrix = np.ascontiguousarray(values).reshape(-1, width)
    matrix.setflags(write=False)
    return matrix
