"""Checkpoints of a training run: `RUN/checkpoints/step-000500/{model,ema,optimizer}.safetensors` and `state.json`.

A checkpoint is complete from the moment its directory has its name: it is written beside it, flushed, then renamed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from kinema.core.errors import CheckpointError, UnavailableError
from kinema.core.files import sync_directory
from kinema.train.weights import load_into, load_weights, reason, save_weights, write_tensors

__all__ = ["complete", "latest", "load_weights", "read_state", "restore", "save", "save_weights"]

Tensors = Mapping[str, Mapping[str, Tensor]]
"""File name without suffix (`model`, `ema`, `optimizer`) -> its tensors by name."""

STATE = "state.json"
FORMAT = 1
_NAME = re.compile(r"step-(\d{6,})")


def save(run: Path, step: int, tensors: Tensors, state: Mapping[str, Any], *, keep: int = 2) -> Path:
    """Return the new checkpoint's directory, and delete all but the last `keep`.

    When the disk refuses, what was half written is removed and an UnavailableError names the checkpoint that is kept.
    """
    target = run / "checkpoints" / f"step-{step:06d}"
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target.parent)
        temporary.mkdir()
        _write(temporary, tensors, {"format": FORMAT, "step": step, "files": sorted(tensors), **state})
        if target.exists():
            _discard(target)
        os.replace(temporary, target)
        sync_directory(target.parent)
        for old in complete(run)[:-keep]:
            _discard(old)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        kept = latest(run)
        said = f"the last complete checkpoint is kept: {kept}" if kept else "there is no complete checkpoint yet"
        raise UnavailableError(f"cannot write checkpoint {target}: {reason(error)}\n{said}") from error
    return target


def _write(directory: Path, tensors: Tensors, state: Mapping[str, Any]) -> None:
    for name, content in tensors.items():
        write_tensors(content, directory / f"{name}.safetensors")
    with open(directory / STATE, "w", encoding="utf-8") as file:
        file.write(json.dumps(state, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    sync_directory(directory)


def _discard(path: Path) -> None:
    # Renamed first, so that a run killed half-way through leaves no directory that looks like a checkpoint.
    doomed = path.with_name(f".{path.name}.old.tmp")
    os.replace(path, doomed)
    shutil.rmtree(doomed)


def _remove_leftovers(directory: Path) -> None:
    for leftover in directory.glob(".step-*.tmp"):
        shutil.rmtree(leftover)


def complete(run: Path) -> list[Path]:
    """Return the directories of all complete checkpoints of `run`, oldest first."""
    found = []
    for path in (run / "checkpoints").glob("step-*"):
        match = _NAME.fullmatch(path.name)
        if match and (path / STATE).is_file() and all((path / file).is_file() for file in _files(path)):
            found.append((int(match[1]), path))
    return [path for _, path in sorted(found)]


def _files(path: Path) -> list[str]:
    return [f"{name}.safetensors" for name in read_state(path)["files"]]


def latest(run: Path) -> Path | None:
    """Return the newest complete checkpoint of `run`, or None; incomplete ones are passed over."""
    found = complete(run)
    return found[-1] if found else None


def read_state(path: Path) -> dict[str, Any]:
    """Return the `state.json` of a checkpoint."""
    file = path / STATE
    try:
        state = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read {file}: {error}\n{_remedy(path)}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT or not {"step", "files"} <= set(state):
        raise CheckpointError(f"{file} is not the state of a checkpoint of format {FORMAT}\n{_remedy(path)}")
    return state


def restore(path: Path, tensors: Tensors) -> dict[str, Any]:
    """Fill the live `tensors` from the checkpoint at `path` and return its state."""
    state = read_state(path)
    if state["files"] != sorted(tensors):
        raise CheckpointError(f"{path} holds {', '.join(state['files'])}; expected {', '.join(sorted(tensors))}")
    for name, live in tensors.items():
        try:
            load_into(live, path / f"{name}.safetensors")
        except CheckpointError as error:
            raise CheckpointError(f"{error}\n{_remedy(path)}") from error
    return state


def _remedy(path: Path) -> str:
    return f"delete {path} to go on from the checkpoint before it"
