"""What a run directory says of its training: on which tasks, and from which initial states."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinema.cli.info import read_json
from kinema.core.errors import CheckpointError, KinemaError

if TYPE_CHECKING:
    from kinema.core.episode import Start


def read_run(run: Path) -> dict[str, Any]:
    """Return the content of `run/run.json`, empty when training has not finished."""
    path = run / "run.json"
    return read_json(path, CheckpointError) if path.exists() else {}


def trained_tasks(run: Path) -> list[str]:
    """Return the tasks that the run was trained on; raises KinemaError when it does not say."""
    tasks = list(dict.fromkeys(str(origin["task"]) for origin in _origins(run) if "task" in origin))
    if not tasks:
        raise KinemaError(f"--tasks is missing: {run} does not say which tasks it was trained on")
    return tasks


def refuse_trained(run: Path, starts: Sequence[Start]) -> None:
    """Raise KinemaError if the run was trained on some of `starts`: trying them again would flatter the policy."""
    trained = {(origin.get("task"), origin.get("seed"), origin.get("episode")) for origin in _origins(run)}
    common = [start for start in starts if (start.task, start.seed, start.episode) in trained]
    if common:
        raise KinemaError(
            f"{len(common)} of {len(starts)} initial states were trained on by {run}, such as {common[0]}\n"
            "fix: another --seed than that of the recording"
        )


def _origins(run: Path) -> list[dict[str, Any]]:
    return list(read_run(run).get("data", {}).get("origins", []))
