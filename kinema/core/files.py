"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from kinema.core.errors import UnavailableError


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically: a temporary file beside it, flushed to disk, then renamed."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically; raises UnavailableError naming it on a full or read-only disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_directory(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UnavailableError(f"cannot write {path}: {error.strerror or error}") from error


def sync_directory(directory: Path) -> None:
    """Flush the names in `directory` to disk, where the system can do that."""
    if os.name != "posix":
        return
    number = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
