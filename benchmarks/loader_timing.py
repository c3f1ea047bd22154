"""What both sides of the loader benchmark measure in the same way; the standard library alone."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def forget(root: Path) -> None:
    """Drop the dataset's files from the page cache, as far as the system lets an ordinary user: a cold start."""
    for path in root.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def timed(batches: Iterator[Any], count: int, samples: int) -> dict[str, Any]:
    """Return the speed of taking `count` batches of `samples` windows in all, the wait for the first included.

    The percentiles are of the other batches.
    """
    latencies = []
    began = before = time.perf_counter()
    for _ in range(count):
        next(batches)
        now = time.perf_counter()
        latencies.append(1e3 * (now - before))
        before = now
    waits = sorted(latencies[1:])
    return {
        "samples_per_s": samples / (before - began),
        "first_ms": latencies[0],
        "p50_ms": waits[len(waits) // 2],
        "p99_ms": waits[min(len(waits) - 1, int(0.99 * len(waits)))],
        "resident_mib": resident_mib(),
    }


def resident_mib() -> float:
    """Return the memory of this process and its children; what several share counts once, page cache does not."""
    own = os.getpid()
    total = 0.0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (int(entry.name) == own or _parent(entry) == own):
            total += _pss_kib(entry)
    return total / 1024


def _parent(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return -1


def _pss_kib(entry: Path) -> float:
    try:
        lines = (entry / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return float(next(line.split()[1] for line in lines if line.startswith("Pss:")))


def digest(*arrays: Any) -> str:
    """Return a hash of the bytes of contiguous `arrays`."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(array.tobytes())
    return total.hexdigest()
