"""Merge the small files of a recorded dataset into few large ones."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True, kw_only=True)
class Compact:
    """Merge the files that recording makes, one per episode, up to the sizes of the format: 100 MB, videos 200 MB.

    Rows stay as they are and videos are joined without coding them again. The old files go when the new ones are in
    place; nothing else may have the dataset open meanwhile. Its content hash changes, as its files do.
    """

    directory: tyro.conf.Positional[Path]
    """directory of a LeRobotDataset v3.0"""

    def run(self) -> int:
        """Merge, then say how many files became how many."""
        from kinema.cli.progress import progress
        from kinema.data.lerobot.compact import compact

        with progress("compact", 100) as tell:
            result = compact(
                self.directory, progress=lambda kind, done, total: tell(100 * done // total, f"% of {kind}")
            )
        for kind, before in result.before.items():
            sys.stdout.write(f"{kind}: {before} files, now {result.after[kind]}\n")
        return 0
