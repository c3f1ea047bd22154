"""What a run directory says of its training: on which tasks, and from which initial states."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinema.cli.info import read_json
from kinema.cli.runs import DATA_FILE
from kinema.core.errors import CheckpointError, KinemaError

if TYPE_CHECKING:
    from kinema.core.episode import Start


def read_run(run: Path) -> dict[str, Any]:
    """Return the content of `run/run.json`, empty when training has not finished."""
    path = run / "run.json"
    return read_json(path, CheckpointError) if path.exists() else {}


def trained_tasks(run: Path) -> list[str]:
    """Return the tasks that the run was trained on; raises KinemaError when it is not there or does not say."""
    if not run.is_dir():
        raise KinemaError(f"there is no run directory {run}")
    tasks = list(dict.fromkeys(str(origin["task"]) for origin in _origins(run) if "task" in origin))
    if not tasks:
        raise KinemaError(f"--tasks is missing: {run} does not say which tasks it was trained on")
    return tasks


def refuse_trained(run: Path, starts: Sequence[Start]) -> None:
    """Raise KinemaError if the run was trained on some of `starts`: trying them again would flatter the policy.

    What a run that it began from was trained on counts too.
    """
    for place in _line(run):
        trained = {(origin.get("task"), origin.get("seed"), origin.get("episode")) for origin in _origins(place)}
        common = [start for start in starts if (start.task, start.seed, start.episode) in trained]
        if common:
            by = str(run) if place == run else f"{place}, from which {run} began"
            raise KinemaError(
                f"{len(common)} of {len(starts)} initial states were trained on by {by}, such as {common[0]}\n"
                "fix: another --seed than that of the recording"
            )


def _line(run: Path) -> list[Path]:
    """Return `run`, the directory that it began from, that one's and so on; says so where one is gone."""
    found, seen = [run], {run.resolve()}
    while (path := run / DATA_FILE).is_file() and (start := read_json(path, CheckpointError).get("start")) is not None:
        base = Path(os.path.normpath(run / str(start)))
        if not base.is_dir():
            sys.stderr.write(f"{run} began from {base}, which is gone: what that was trained on is not ruled out\n")
            break
        if base.resolve() in seen:
            break
        seen.add(base.resolve())
        found.append(run := base)
    return found


def _origins(run: Path) -> list[dict[str, Any]]:
    return list(read_run(run).get("data", {}).get("origins", []))
