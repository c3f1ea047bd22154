"""What a training run tells: a JSONL log, TensorBoard, and one line or bar of progress."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from kinema.core.errors import CheckpointError, UnavailableError
from kinema.core.files import write_text

PLAIN_EVERY_S = 10.0


class JsonlLog:
    """One JSON object a line, each with `kind` and `step`, flushed as it is written."""

    def __init__(self, path: Path | None, *, resume_step: int, tensorboard: bool = False) -> None:
        """Open `path` for appending, after dropping what an earlier run wrote beyond `resume_step`; None is no log."""
        self.path, self._file, self._board = path, None, None
        if path is None:
            return
        self._board = _summary_writer(path.parent / "tensorboard", resume_step) if tensorboard else None
        if path.exists():
            kept = [line for line in read_log(path) if line["step"] <= resume_step] if resume_step else []
            write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        try:
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise UnavailableError(f"cannot write {path}: {error.strerror}") from error

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Append one line."""
        if self._file is None:
            return
        line = (json.dumps({"kind": kind, "step": step, **values}, allow_nan=False) + "\n").encode()
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise UnavailableError(f"cannot write {self.path}: {error.strerror}") from error
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, float):
                    self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Close the files."""
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()

    def __enter__(self) -> JsonlLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a training log; a last line cut short by a killed run is left out, any other is an error."""
    lines = path.read_text("utf-8", errors="replace").splitlines()
    found = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise CheckpointError(f"{path}, line {number}: not JSON: {line!r:.60}") from error
        if not isinstance(entry, dict) or not isinstance(entry.get("step"), int):
            raise CheckpointError(f"{path}, line {number}: no line of a training log: {line!r:.60}")
        found.append(entry)
    return found


def _summary_writer(directory: Path, resume_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UnavailableError("TensorBoard is not installed: pip install 'kinema[tensorboard]'") from error
    return SummaryWriter(str(directory), purge_step=resume_step + 1)


class Progress:
    """Shows loss, samples per second and time left: a bar on a terminal, else one plain line every ten seconds."""

    def __init__(self, stream: TextIO | None, *, total: int, start: int) -> None:
        """`stream` is usually stderr; None shows nothing. `start` of `total` steps are done."""
        self._stream, self._total = stream, total
        self._said_s = time.monotonic()
        self._bar = _bar(stream) if stream is not None and stream.isatty() else None
        if self._bar is not None:
            self._task = self._bar.add_task("training", total=total, completed=start, told="")
            self._bar.start()

    def note(self, text: str) -> None:
        """Show a line that stays."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        elif self._stream is not None:
            self._stream.write(text + "\n")
            self._stream.flush()

    def update(self, step: int, values: Mapping[str, float], left_s: float) -> None:
        """Show that `step` steps are done; `values` holds `loss` and `samples_per_s`."""
        told = f"loss {values['loss']:.4g}  {values['samples_per_s']:.0f} samples/s  {_duration(left_s)} left"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, told=told)
        elif time.monotonic() - self._said_s >= PLAIN_EVERY_S:
            self._said_s = time.monotonic()
            self.note(f"step {step}/{self._total}  {told}")

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()


def _bar(stream: TextIO) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as RichProgress

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[told]}"))
    return RichProgress(*columns, console=Console(file=stream))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
