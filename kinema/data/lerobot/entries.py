"""The values of an episode's entry in its table, which may hold anything, with their types checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kinema.core.errors import DataError

_MOST = 2**53
"""Whole numbers above this are no count of anything."""


def whole_of(path: Path, entry: Mapping[str, Any], name: str) -> int:
    """Return the whole number `name` of `entry`, which `path` holds; raises DataError for anything else."""
    value = entry.get(name)
    if type(value) is not int or not 0 <= value < _MOST:
        raise DataError(f"{path}: {name} of an episode is {value!r:.40}, expected a whole number")
    return value


def seconds_of(path: Path, entry: Mapping[str, Any], name: str) -> float:
    """Return the time `name` of `entry` [s]; raises DataError for anything else."""
    value = entry[name]
    if not isinstance(value, (int, float)) or not 0 <= value < _MOST:
        raise DataError(f"{path}: {name} is {value!r:.40}, expected seconds")
    return value


def tasks_of(path: Path, entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the texts of an episode's tasks; raises DataError for anything else."""
    tasks = entry.get("tasks") or []
    if not isinstance(tasks, list) or not all(isinstance(task, str) for task in tasks):
        raise DataError(f"{path}: episode {entry['episode_index']} has the tasks {tasks!r:.80}, expected texts")
    return tuple(tasks)


def origin_of(path: Path, text: Any) -> dict[str, str | int | float] | None:
    """Return the object that an episode's origin says as JSON, None for none; raises DataError for anything else."""
    if text is None:
        return None
    try:
        origin = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: the origin {text!r:.80} of an episode is no JSON: {error}") from error
    if not isinstance(origin, dict):
        raise DataError(f"{path}: the origin {text!r:.80} of an episode is not an object")
    return origin
