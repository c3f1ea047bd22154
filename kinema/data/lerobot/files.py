"""Durable file operations: closed parquet files, fsync, one writer at a time, quarantine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from kinema.core.errors import DataError, UnavailableError
from kinema.core.files import sync_directory

STAGING, QUARANTINE, LOCK = ".staging", ".quarantine", ".lock"


@contextlib.contextmanager
def reported(root: Path) -> Iterator[None]:
    """Turn failures of the disk below `root` (full, read-only, no permission) into UnavailableError."""
    try:
        yield
    except OSError as error:
        raise UnavailableError(f"cannot write {error.filename or root}: {error.strerror or error}") from error


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the dataset's lock, waiting for whoever has it; a killed holder lets go of it."""
    with open(root / LOCK, "a") as file:
        if os.name == "posix":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_table(table: pa.Table, path: Path) -> None:
    """Write `table` to `path` as a closed parquet file, snappy and dictionary encoded, and flush it to disk."""
    with open(path, "wb") as file:
        pq.write_table(table, file, compression="snappy", use_dictionary=True)
        file.flush()
        os.fsync(file.fileno())


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the parquet table at `path`; raises DataError when it is missing, truncated or lacks a column."""
    try:
        with pq.ParquetFile(path) as file:
            for column in columns or ():
                if column not in file.schema_arrow.names:
                    raise DataError(f"{path} has no column {column!r}")
            return file.read(columns=None if columns is None else list(columns), use_threads=False)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} is truncated or not a parquet file: {error}") from error


def sync_file(path: Path) -> None:
    """Flush a written file to disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


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


def quarantine(root: Path, paths: Sequence[Path]) -> Path | None:
    """Move `paths` into a new numbered folder of `.quarantine/`, keeping their places; returns it, or None if none."""
    if not paths:
        return None
    number = 0
    while (folder := root / QUARANTINE / f"{number:04d}").exists():
        number += 1
    for path in paths:
        move(path, folder / path.relative_to(root))
    sync_directories(root, [*paths, *(folder / path.relative_to(root) for path in paths)])
    return folder
