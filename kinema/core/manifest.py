"""Where and when a number was made: versions, cores, date and command."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from datetime import datetime, timezone
from typing import Any

_PACKAGES = (
    "kinema",
    "numpy",
    "scipy",
    "torch",
    "transformers",
    "peft",
    "mujoco",
    "metaworld",
    "gymnasium",
    "av",
    "pyarrow",
    "pillow",
)


def versions() -> dict[str, str]:
    """Return the installed versions of Python and of every package that can change a number."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def cores() -> int:
    """Return how many processor cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def now() -> str:
    """Return the current UTC date and time, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def here(*, command: str) -> dict[str, Any]:
    """Return the manifest entries of something computed on this machine, now, by `command`."""
    return {"command": command, "versions": versions(), "cores": cores(), "machine": platform.machine(), "date": now()}
