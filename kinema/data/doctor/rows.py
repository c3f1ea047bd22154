"""The episodes and tasks tables as plain, well-typed rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from kinema.core.errors import DataError
from kinema.data.doctor.base import Place
from kinema.data.doctor.survey import EpisodeRow, Span
from kinema.data.lerobot import layout
from kinema.data.lerobot.files import read_table
from kinema.data.lerobot.templates import leaves

Trouble = list[tuple[str, Place]]
NUMBERS = ("episode_index", "length", "dataset_from_index", "dataset_to_index", "data/chunk_index", "data/file_index")
_MOST = 2**53
"""Whole numbers above this are no count of anything."""


def read_parquet(root: Path, name: str, check: str, trouble: Trouble) -> pa.Table | None:
    """Return the table at `name`, or None after noting why it cannot be read."""
    try:
        return read_table(root / name)
    except (DataError, ValueError, KeyError, TypeError, NotImplementedError, MemoryError) as error:
        detail = "does not exist" if not (root / name).exists() else f"cannot be read: {error}".replace(f"{root}/", "")
        trouble.append((check, Place(detail=detail[:200], file=name)))
        return None


def read_plain(root: Path, name: str, check: str, trouble: Trouble) -> list[dict[str, Any]]:
    """Return the rows of the table at `name` as plain values, none after noting why it cannot be read."""
    table = read_parquet(root, name, check, trouble)
    try:
        return [] if table is None else table.to_pylist()
    except (ValueError, TypeError, NotImplementedError) as error:
        trouble.append((check, Place(detail=f"holds values that cannot be read: {error}"[:200], file=name)))
        return []


def read_task_rows(root: Path, trouble: Trouble) -> tuple[dict[int, str], int]:
    """Return the tasks by index (the first where one is there twice), and how many rows the table has."""
    rows = read_plain(root, layout.TASKS, "tasks-unreadable", trouble)
    tasks: dict[int, str] = {}
    for place, row in enumerate(rows):
        # pandas keeps an unnamed index of texts as `__index_level_0__`.
        index, text = row.get("task_index"), row.get("task", row.get("__index_level_0__"))
        if type(index) is not int or index < 0:
            detail = f"row {place}: task_index {index!r}, expected a whole number"
            trouble.append(("tasks-unreadable", Place(detail=detail, file=layout.TASKS)))
        elif index in tasks:
            detail = f"task_index {index} is there twice: {tasks[index]!r:.60} and {text!r:.60}"
            trouble.append(("task-repeated", Place(detail=detail, file=layout.TASKS)))
        else:
            tasks[index] = text if isinstance(text, str) else ""
    return tasks, len(rows)


def read_episode_rows(
    root: Path, templates: Mapping[str, str], cameras: tuple[str, ...], trouble: Trouble
) -> list[EpisodeRow]:
    """Return all well-formed rows of all episodes tables, in the order in which they stand there."""
    names = sorted(path.relative_to(root).as_posix() for path in root.glob("meta/episodes/chunk-*/file-*.parquet"))
    if not names:
        detail = "no meta/episodes/chunk-*/file-*.parquet is there"
        trouble.append(("episodes-unreadable", Place(detail=detail, file="meta/episodes")))
    found = []
    for name in names:
        for place, row in enumerate(read_plain(root, name, "episodes-unreadable", trouble)):
            problems = list(_problems(row, cameras))
            index = row.get("episode_index")
            for problem in problems:
                episode = index if type(index) is int else None
                detail = f"row {place}: {problem}"
                trouble.append(("episode-columns", Place(detail=detail, file=name, episode=episode)))
            if not any(_whole(row.get(column)) is False for column in NUMBERS):
                found.append(_row(row, name, templates, cameras))
    return [row for row in found if not _leaving(row, trouble)]


def _leaving(row: EpisodeRow, trouble: Trouble) -> bool:
    """Return whether a file of the episode is not in the dataset, after noting which."""
    names = [name for name in (row.data_file, *(span.file for span in row.spans.values())) if leaves(name)]
    details = [f"the path {name!r:.100} leaves the dataset" for name in names]
    trouble += [("path-template", Place(detail=detail, file=layout.INFO, episode=row.index)) for detail in details]
    return bool(names)


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST


def _seconds(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and value >= 0


def _problems(row: Mapping[str, Any], cameras: tuple[str, ...]) -> Iterator[str]:
    for column in NUMBERS:
        if column not in row:
            yield f"no column {column!r}"
        elif not _whole(row[column]):
            yield f"{column} is {row[column]!r:.40}, expected a whole number"
    tasks = row.get("tasks")
    if not isinstance(tasks, list) or not all(isinstance(task, str) for task in tasks):
        yield f"tasks is {tasks!r:.60}, expected a list of texts"
    for camera in cameras:
        if not _spanned(row, camera):
            yield f"no chunk_index, file_index, from_timestamp and to_timestamp of {camera}"


def _spanned(row: Mapping[str, Any], camera: str) -> bool:
    prefix = f"videos/{camera}"
    return all(_whole(row.get(f"{prefix}/{name}")) for name in ("chunk_index", "file_index")) and all(
        _seconds(row.get(f"{prefix}/{name}")) for name in ("from_timestamp", "to_timestamp")
    )


def _row(row: Mapping[str, Any], file: str, templates: Mapping[str, str], cameras: tuple[str, ...]) -> EpisodeRow:
    def place(template: str, prefix: str, **names: str) -> str:
        numbers = {name: row[f"{prefix}/{name}"] for name in ("chunk_index", "file_index")}
        return templates[template].format(**numbers, **{"video_key": "", **names})

    spans = {
        camera: Span(
            file=place("video_path", f"videos/{camera}", video_key=camera),
            from_s=float(row[f"videos/{camera}/from_timestamp"]),
            to_s=float(row[f"videos/{camera}/to_timestamp"]),
        )
        for camera in cameras
        if _spanned(row, camera)
    }
    tasks = row.get("tasks")
    success = row.get(layout.SUCCESS_COLUMN)
    return EpisodeRow(
        index=row["episode_index"],
        length=row["length"],
        start=row["dataset_from_index"],
        stop=row["dataset_to_index"],
        tasks=tuple(task for task in tasks if isinstance(task, str)) if isinstance(tasks, list) else (),
        data_file=place("data_path", "data"),
        spans=spans,
        success=success if isinstance(success, bool) else None,
        stats={name: value for name, value in row.items() if name.startswith("stats/")},
        file=file,
    )
