"""What a dataset's bytes are."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from kinema.core.errors import DataError, KinemaError
from kinema.core.files import write_text


def content_hash(root: Path, files: Sequence[Path], cache: Path) -> str:
    """Return the sha256 over the relative paths and contents of `files`, in order.

    A file is read again only when its size or modification time differs from the last time.
    """
    known = _known_hashes(cache / "hashes.json")
    hashes: dict[str, list[int | str]] = {}
    total = hashlib.sha256()
    for path in files:
        name = path.relative_to(root).as_posix()
        try:
            status = path.stat()
            entry = known.get(name)
            if entry is None or entry[:2] != [status.st_size, status.st_mtime_ns]:
                entry = [status.st_size, status.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()]
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from error
        hashes[name] = entry
        total.update(f"{name}\0{entry[2]}\n".encode())
    if hashes != known:
        # Only a shortcut for the next time: a dataset on a read-only disk is hashed in full each time.
        with contextlib.suppress(OSError, KinemaError):
            cache.mkdir(parents=True, exist_ok=True)
            write_text(cache / "hashes.json", json.dumps(hashes))
    return total.hexdigest()


def _known_hashes(path: Path) -> dict[str, list[int | str]]:
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
