"""The three parquet tables of the format: frames, episodes, tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kinema.core.episode import Episode
from kinema.core.errors import DataError
from kinema.data.lerobot import layout
from kinema.data.lerobot.episode_stats import FeatureStats, to_columns
from kinema.data.lerobot.files import read_table

EPISODE_COLUMNS = (
    "episode_index",
    "tasks",
    "length",
    "dataset_from_index",
    "dataset_to_index",
    "data/chunk_index",
    "data/file_index",
)


def frame_columns(
    episode: Episode, keys: Sequence[str], *, index: int, start: int, task: int, fps: int
) -> dict[str, np.ndarray]:
    """Return the columns (T, D) of one episode's data table by feature name; the automatic ones are (T, 1)."""
    steps = np.arange(len(episode))
    columns: dict[str, np.ndarray] = {layout.feature_key(key): episode.frames[key] for key in keys}
    timing = {layout.CAPTURED + layout.feature_key(key): times for key, times in episode.captured_ns.items()}
    timing |= {layout.VALID + layout.feature_key(key): flags for key, flags in episode.valid.items()}
    automatic: dict[str, np.ndarray] = {
        "timestamp": (steps / fps).astype(np.float32),
        "frame_index": steps,
        "episode_index": np.full(len(episode), index),
        "index": start + steps,
        "task_index": np.full(len(episode), task),
    }
    return columns | {name: values.reshape(-1, 1) for name, values in (timing | automatic).items()}


def frames_table(columns: Mapping[str, np.ndarray]) -> pa.Table:
    """Return the data table: fixed-size lists, or plain numbers where the width is 1."""
    arrays = {}
    for name, values in columns.items():
        flat = pa.array(np.ascontiguousarray(values).reshape(-1))
        arrays[name] = flat if values.shape[1] == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return pa.table(arrays)


def episode_table(
    episode: Episode,
    cameras: Sequence[str],
    stats: Mapping[str, FeatureStats],
    *,
    index: int,
    start: int,
    number: int,
    fps: int,
) -> pa.Table:
    """Return the one-row table of episode `index`, whose rows begin at `start` and whose files have the `number`."""
    chunk, file = divmod(number, layout.CHUNK_FILES)
    row: dict[str, Any] = {
        "episode_index": index,
        "tasks": [episode.instruction],
        "length": len(episode),
        "data/chunk_index": chunk,
        "data/file_index": file,
        "dataset_from_index": start,
        "dataset_to_index": start + len(episode),
    }
    for camera in cameras:
        prefix = f"videos/{layout.feature_key(camera)}"
        row |= {f"{prefix}/chunk_index": chunk, f"{prefix}/file_index": file}
        row |= {f"{prefix}/from_timestamp": 0.0, f"{prefix}/to_timestamp": len(episode) / fps}
    row |= {"meta/episodes/chunk_index": chunk, "meta/episodes/file_index": file}
    row |= {layout.ORIGIN_COLUMN: json.dumps(dict(episode.origin)), layout.SUCCESS_COLUMN: bool(episode.success)}
    return pa.table({name: pa.array([value]) for name, value in row.items()} | to_columns(stats))


def read_episodes(root: Path, total: int, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return the committed `total` episodes' rows, by index; rows beyond are not committed and left out."""
    paths = sorted((root / "meta/episodes").glob("chunk-*/file-*.parquet"))
    rows: list[dict[str, Any]] = []
    for path in paths:
        if len(rows) >= total:
            break
        rows += [row for row in read_table(path, columns).to_pylist() if row["episode_index"] < total]
    rows.sort(key=lambda row: row["episode_index"])
    found = [row["episode_index"] for row in rows]
    if found != list(range(total)):
        missing = sorted(set(range(total)) - set(found))
        detail = f"episodes {missing[:5]} are missing" if missing else "an episode is listed twice"
        raise DataError(f"{root}: {layout.INFO} counts {total} episodes, meta/episodes lists {len(found)}: {detail}")
    return rows


def tasks_table(tasks: Sequence[str]) -> pa.Table:
    """Return the tasks table: `task_index` per task text, which is the index when pandas reads it."""

    def column(name: str, kind: str, numpy_kind: str) -> dict[str, Any]:
        return {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy_kind, "metadata": None}

    described = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [column("task_index", "int64", "int64"), column("task", "unicode", "object")],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})
    return table.replace_schema_metadata({"pandas": json.dumps(described)})


def read_tasks(root: Path, total: int) -> tuple[str, ...]:
    """Return the first `total` task texts in order of their index."""
    if total == 0:
        return ()
    table = read_table(root / layout.TASKS, ("task_index", "task"))
    rows = sorted(zip(table["task_index"].to_pylist(), table["task"].to_pylist(), strict=True))
    if [index for index, _ in rows[:total]] != list(range(total)):
        raise DataError(f"{root / layout.TASKS}: {layout.INFO} counts {total} tasks, the table lists {len(rows)}")
    return tuple(task for _, task in rows[:total])
