"""Score each episode as a demonstration, show the worst, and write the list of episodes that training leaves out."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from kinema.core.errors import KinemaError
from kinema.data.quality import PARTS, EpisodeScore, Thresholds, exclusions, score


@dataclass(frozen=True, kw_only=True)
class Score:
    """Measure idleness, jerk, jumps and more in each episode, and score it from 0 to 1: below 0.5 is not good enough.

    Compares episodes of the same task; looks at vectors and actions, not at images.
    """

    directory: Annotated[Path, tyro.conf.Positional]
    """a dataset"""
    out: Path | None = None
    """JSON file for the list of episodes to leave out, with reasons"""
    below: float = 0.5
    """leave out episodes with a score below this"""
    worst: int = 10
    """how many of the worst to show"""
    thresholds: Thresholds = field(default_factory=Thresholds)
    """values of the parts at which the score is 0.5"""

    def run(self) -> int:
        """Print the worst episodes, write the list when asked, and return 0, or 1 when some are not good enough."""
        from kinema.core.files import write_text
        from kinema.data.lerobot.reader import open_dataset

        if self.worst < 0 or not 0 <= self.below <= 1:
            raise KinemaError(f"--worst {self.worst}, --below {self.below}: expected 0 or more, and 0 to 1")
        dataset = open_dataset(self.directory)
        scores = score(dataset, self.thresholds)
        listed = exclusions(dataset, scores, self.below)
        _print(sorted(scores, key=lambda one: one.score)[: self.worst], self.thresholds)
        bad, total = len(listed["episodes"]), len(scores)
        sys.stdout.write(f"{self.directory}: {bad} of {total} episodes score below {self.below:g}\n")
        if self.out is not None:
            write_text(self.out, json.dumps(listed, indent=2) + "\n")
            sys.stdout.write(f"written to {self.out}\n")
        if bad and bad < total:
            named = ",".join(map(str, listed["episodes"]))
            sys.stdout.write(
                f"next: kinema data view {self.directory} --episodes {named} --out bad.html\n"
                f"      kinema data edit delete {self.directory} --episodes {named} --out {self.directory}-good\n"
            )
        return 1 if bad else 0


def _print(worst: list[EpisodeScore], limits: Thresholds) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("episode", "score", *PARTS, "jerk m/s\u00b3"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("reasons", overflow="fold")
    for one in worst:
        values = [f"{one.values[name]:.3g}" for name in PARTS]
        table.add_row(str(one.index), f"{one.score:.2f}", *values, f"{one.jerk_si:.3g}", "; ".join(one.reasons))
    table.add_row("limit", "0.50", *(f"{value:g}" for value in asdict(limits).values()), "", "", style="dim")
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160).print(table)
