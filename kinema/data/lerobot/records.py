"""The episodes and tasks of a dataset of any version: tables in parquet (v3.0) or lines of JSON (v2)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kinema.core.errors import DataError
from kinema.data.lerobot import layout
from kinema.data.lerobot.entries import origin_of, seconds_of, tasks_of, whole_of
from kinema.data.lerobot.files import read_table
from kinema.data.lerobot.tables import EPISODE_COLUMNS
from kinema.data.lerobot.templates import Templates

TABLES = ("meta/episodes.jsonl", "meta/tasks.jsonl", "meta/episodes_stats.jsonl")
_OWN = (layout.ORIGIN_COLUMN, layout.SUCCESS_COLUMN)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One episode: rows `start` to `start + length`, its data file, and per camera the video and where it begins [s].

    `origin` and `success` are None where another program wrote the dataset.
    """

    index: int
    length: int
    start: int
    tasks: tuple[str, ...]
    data: Path
    videos: Mapping[str, tuple[Path, float]]
    origin: Mapping[str, str | int | float] | None = None
    success: bool | None = None


def json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the JSON objects of `path`, one a line; raises DataError naming the line that is none."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: {error}") from error
        if not isinstance(entry, dict):
            raise DataError(f"{path}, line {number}: a {type(entry).__name__}, expected an object")
        found.append(entry)
    return found


def new_rows(
    root: Path, info: Mapping[str, Any], templates: Templates, videos: tuple[str, ...]
) -> tuple[list[Row], list[Path]]:
    """Return the committed episodes of a v3.0 dataset by index, and the files that list them."""
    columns = [*EPISODE_COLUMNS]
    columns += [f"videos/{key}/{name}" for key in videos for name in ("chunk_index", "file_index", "from_timestamp")]
    found: dict[int, Row] = {}
    tables = []
    for path in sorted((root / "meta/episodes").glob("chunk-*/file-*.parquet")):
        if len(found) >= info["total_episodes"]:
            break
        for entry in _plain(path, columns):
            index = entry["episode_index"]
            if not isinstance(index, int) or index >= info["total_episodes"]:
                continue
            if index in found:
                raise DataError(f"{root}: episode {index} is listed twice in meta/episodes")
            found[index] = _row(path, entry, templates, videos)
            tables.append(path)
    return [found[index] for index in sorted(found)], tables


def _plain(path: Path, columns: list[str]) -> list[dict[str, Any]]:
    table = read_table(path, columns, optional=_OWN)
    try:
        rows: list[dict[str, Any]] = table.to_pylist()
    except (ValueError, ArithmeticError, pa.ArrowException) as error:
        raise DataError(f"{path} holds values that cannot be read: {error}") from error
    return rows


def _names(path: Path) -> set[str]:
    try:
        return set(pq.read_schema(path).names)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} is truncated or not a parquet file: {error}") from error


def _row(path: Path, entry: Mapping[str, Any], templates: Templates, videos: tuple[str, ...]) -> Row:
    def place(prefix: str) -> dict[str, Any]:
        return {name: entry[f"{prefix}/{name}"] for name in ("chunk_index", "file_index")}

    success = entry.get(layout.SUCCESS_COLUMN)
    if not isinstance(success, (bool, type(None))):
        raise DataError(f"{path}: {layout.SUCCESS_COLUMN} of an episode is {success!r:.40}, expected true or false")
    return Row(
        index=whole_of(path, entry, "episode_index"),
        length=whole_of(path, entry, "length"),
        start=whole_of(path, entry, "dataset_from_index"),
        tasks=tasks_of(path, entry),
        data=templates.path(templates.data, **place("data")),
        videos={
            key: (
                templates.path(templates.video, video_key=key, **place(f"videos/{key}")),
                seconds_of(path, entry, f"videos/{key}/from_timestamp"),
            )
            for key in videos
        },
        origin=origin_of(path, entry.get(layout.ORIGIN_COLUMN)),
        success=success,
    )


def old_rows(root: Path, templates: Templates, videos: tuple[str, ...]) -> tuple[list[Row], list[Path]]:
    """Return the episodes of a v2 dataset by index, and the file that lists them."""
    path, rows, start = root / TABLES[0], [], 0
    lines = json_lines(path)
    for index, entry in sorted(((whole_of(path, line, "episode_index"), line) for line in lines), key=itemgetter(0)):
        length = whole_of(path, entry, "length")
        values = {"episode_chunk": index // templates.chunk_size, "episode_index": index}
        video = {key: (templates.path(templates.video, video_key=key, **values), 0.0) for key in videos}
        data = templates.path(templates.data, **values)
        tasks = tasks_of(path, entry)
        rows.append(Row(index=index, length=length, start=start, tasks=tasks, data=data, videos=video))
        start += length
    return rows, [path]


def check_rows(root: Path, info: Mapping[str, Any], rows: list[Row]) -> None:
    """Raise DataError unless the episodes are as many, and have as many rows, as info.json says."""
    total, found = info["total_episodes"], [row.index for row in rows]
    if len(rows) != total or found != list(range(len(rows))):
        # Among so few there are five that are missing, if as many are: `total` may be any number.
        missing = sorted(set(range(min(total, len(rows) + 5))) - set(found))
        detail = f"episodes {missing[:5]} are missing" if missing else "there are more, or one is listed twice"
        raise DataError(f"{root}: {layout.INFO} counts {total} episodes, meta/episodes lists {len(rows)}: {detail}")
    start = 0
    for row in rows:
        if row.start != start or row.length < 1:
            raise DataError(
                f"{root}: episode {row.index} starts at row {row.start} with {row.length} rows, expected {start}"
            )
        start += row.length
    if start != info["total_frames"]:
        raise DataError(f"{root}: the episodes have {start} rows, {layout.INFO[5:]} counts {info['total_frames']}")


def new_tasks(path: Path) -> tuple[str, ...]:
    """Return the task texts of a v3.0 dataset in order of their numbers."""
    # pandas calls an index without a name so; some versions of LeRobot leave it without one.
    known = _names(path)
    name = next((name for name in ("task", "__index_level_0__") if name in known), "task")
    table = read_table(path, ("task_index", name))
    try:
        texts = table[name].to_pylist()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: a task is not UTF-8 text: {error}") from error
    return _ordered(path, list(zip(table["task_index"].to_pylist(), texts, strict=True)))


def old_tasks(path: Path) -> tuple[str, ...]:
    """Return the task texts of a v2 dataset in order of their numbers."""
    return _ordered(path, [(entry.get("task_index"), entry.get("task")) for entry in json_lines(path)])


def _ordered(path: Path, pairs: list[tuple[Any, Any]]) -> tuple[str, ...]:
    for index, text in pairs:
        if not (isinstance(index, int) and isinstance(text, str)):
            raise DataError(f"{path}: task {index!r} is {text!r:.80}, expected a text with a whole number")
    texts = dict(pairs)
    if sorted(texts) != list(range(len(pairs))):
        raise DataError(f"{path}: the tasks have the numbers {sorted(texts)[:8]}, expected 0 to {len(pairs) - 1}")
    return tuple(texts[index] for index in range(len(pairs)))
