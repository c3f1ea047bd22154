"""What goes wrong with datasets: functions (root, rng) -> what the doctor must say, or None where it cannot be.

A structural corruption breaks the format; a content corruption leaves a dataset that every reader accepts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import corruptions_clocks
import corruptions_content
import corruptions_rows
import corruptions_structure
import corruptions_video
import numpy as np

from kinema.data.doctor.base import Report


@dataclass(frozen=True)
class Expected:
    """The check that must fire, and the episode that it must name (None: any place)."""

    check: str
    episode: int | None = None

    def met(self, report: Report) -> bool:
        """Return whether the report says so; a check that broke down says nothing."""
        found = {(finding.check, finding.episode) for finding in report.findings}
        named = self.episode is None or (self.check, self.episode) in found
        checks = {check for check, _ in found}
        return self.check in checks and named and "could-not-check" not in checks


Corruption = Callable[[Path, np.random.Generator], "tuple[str, int | None] | None"]


def _named(module: ModuleType) -> dict[str, Corruption]:
    return {
        name.replace("_", "-"): value
        for name, value in vars(module).items()
        if getattr(value, "__module__", "") == module.__name__ and not name.startswith("_")
    }


STRUCTURAL = _named(corruptions_structure) | _named(corruptions_rows) | _named(corruptions_video)
CONTENT = _named(corruptions_content) | _named(corruptions_clocks)
ALL = STRUCTURAL | CONTENT


def corrupt(name: str, root: Path, rng: np.random.Generator) -> Expected | None:
    """Corrupt the clean dataset at `root`; returns what the doctor must say, or None where this cannot befall it."""
    found = ALL[name](root, rng)
    return None if found is None else Expected(*found)
