"""Show what a mixture of datasets draws, before anything is trained on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from kinema.core.errors import KinemaError


@dataclass(frozen=True, kw_only=True)
class Mix:
    """Show how much `kinema train` would draw from each of the datasets DIRECTORIES; reads their tables only.

    The options are those of `kinema train ... --data A,B --data.alpha 0.5`. Numbers are of all episodes: what is held
    out or excluded in training is not known here.
    """

    directories: tyro.conf.Positional[tuple[Path, ...]]
    """datasets, in order"""
    alpha: float | None = None
    """share proportional to frames^alpha: 1 by frames (as when nothing is said), 0 the same of each"""
    weights: tuple[float, ...] | str | None = None
    """one number for each dataset, or oxe-magic-soup, which goes by the directories' names"""
    weights_mean: Literal["multiply", "replace"] | None = None
    """do the weights multiply the numbers of frames, or replace them?"""
    batch_size: int = 64
    """samples in a batch"""
    steps: int = 10_000
    """steps over which epochs are counted"""

    def run(self) -> int:
        """Print the table and return 0."""
        from rich.console import Console
        from rich.table import Table

        from kinema.data.lerobot.versions import read_view
        from kinema.data.shares import shares

        if not self.directories or self.batch_size < 1 or self.steps < 1:
            raise KinemaError("give one or more dataset directories, and a batch size and steps of at least 1")
        names = [path.resolve().name for path in self.directories]
        frames = [sum(episode.length for episode in read_view(path).episodes) for path in self.directories]
        share = shares(frames, names=names, alpha=self.alpha, weights=self.weights, weights_mean=self.weights_mean)
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("dataset", overflow="fold")
        for title in ("frames", "share", "of by frames", f"in {self.batch_size}", f"epochs in {self.steps:,} steps"):
            table.add_column(title, justify="right")
        for name, count, part in zip(names, frames, share, strict=True):
            drawn = part * self.batch_size
            table.add_row(
                name,
                f"{count:,}",
                f"{part:.4f}",
                f"{part * sum(frames) / count:.3g}x",
                f"{drawn:.2f}",
                f"{drawn * self.steps / count:.3g}",
            )
        Console(highlight=False, markup=False).print(table)
        return 0
