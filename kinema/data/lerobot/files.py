"""Durable file operations: closed parquet files, fsync, one writer at a time, quarantine."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from kinema.core.errors import DataError, UnavailableError
from kinema.core.files import sync_directory

STAGING, QUARANTINE, LOCK = ".staging", ".quarantine", ".lock"
LOCK_WAIT_S = 5.0


@contextlib.contextmanager
def reported(root: Path) -> Iterator[None]:
    """Turn failures of the disk below `root` (full, read-only, no permission) into UnavailableError."""
    try:
        yield
    except OSError as error:
        raise UnavailableError(f"cannot write {error.filename or root}: {error.strerror or error}") from error


def lock(root: Path) -> TextIO:
    """Return the dataset's lock, held until it is closed; a killed holder lets go of it.

    Raises UnavailableError when another writer keeps it for longer than a commit takes.
    """
    deadline = time.monotonic() + LOCK_WAIT_S
    file = open(root / LOCK, "a+")  # noqa: SIM115 - held open, that is the lock
    while not _taken(file) or not _is_at(file, root / LOCK):
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        if time.monotonic() > deadline:
            raise UnavailableError(f"{root} is being written by another writer (process {holder}); one at a time")
        time.sleep(0.02)
        file = open(root / LOCK, "a+")  # noqa: SIM115
    # Only for the message above: a full disk must not stop a reader of the lock.
    with contextlib.suppress(OSError):
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
    return file


def _taken(file: TextIO) -> bool:
    if os.name == "posix":
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _is_at(file: TextIO, path: Path) -> bool:
    """Return whether the open file is the one under the name: an edit in place exchanges the directory around it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def write_table(table: pa.Table, path: Path) -> None:
    """Write `table` to `path` as a closed parquet file, snappy and dictionary encoded, and flush it to disk."""
    with open(path, "wb") as file:
        pq.write_table(table, file, compression="snappy", use_dictionary=True)
        file.flush()
        os.fsync(file.fileno())


def read_table(path: Path, columns: Sequence[str] | None = None, *, optional: Sequence[str] = ()) -> pa.Table:
    """Return the parquet table at `path`: all of it, or `columns` and those of `optional` that it has.

    Raises DataError when it is missing, truncated or lacks a column.
    """
    try:
        with pq.ParquetFile(path) as file:
            # Asking the file for its schema would cost more than reading one row: see what came instead.
            table = file.read(columns=None if columns is None else [*columns, *optional], use_threads=False)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} is truncated or not a parquet file: {error}") from error
    for column in columns or ():
        if column not in table.column_names:
            raise DataError(f"{path} has no column {column!r}")
    return table


def sync_directories(root: Path, paths: Sequence[Path]) -> None:
    """Flush the directories that hold `paths`, up to and with `root`, so that their names survive a power cut."""
    folders = {root}
    for path in paths:
        folders.update(parent for parent in path.parents if root in parent.parents)
    for folder in sorted(folders):
        sync_directory(folder)


def move(source: Path, target: Path) -> None:
    """Rename `source` to `target`, making its directory."""
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, target)


def quarantine(root: Path, paths: Sequence[Path], reason: str = "not committed: the writer was stopped") -> Path | None:
    """Move `paths` into a new numbered folder of `.quarantine/`, keeping their places, with the reason beside them.

    Returns the folder, or None when there are no paths.
    """
    if not paths:
        return None
    number = 0
    while (folder := root / QUARANTINE / f"{number:04d}").exists():
        number += 1
    for path in paths:
        move(path, folder / path.relative_to(root))
    # What matters is that the files are out of the way; on a full disk they are so without a word.
    with contextlib.suppress(OSError):
        (folder / "reason.txt").write_text(reason + "\n", "utf-8")
    sync_directories(root, [*paths, *(folder / path.relative_to(root) for path in paths)])
    return folder
