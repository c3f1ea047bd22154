"""Look at episodes of a dataset: films and curves on one HTML page, or a recording for the Rerun viewer."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from kinema.cli.progress import progress
from kinema.core.errors import KinemaError

if TYPE_CHECKING:
    from kinema.data.lerobot.reader import Dataset

_MOST = 20


@dataclass(frozen=True, kw_only=True)
class View:
    """Draw chosen episodes: a film of each camera above the curves of every vector and the action, with units."""

    directory: Annotated[Path, tyro.conf.Positional]
    """a dataset"""
    out: Path | None = None
    """HTML file; DIRECTORY.html when neither this nor --rerun is given"""
    rerun: Path | None = None
    """.rrd file for the Rerun viewer; needs kinema[view]"""
    episodes: str | None = None
    """episodes by index: 3,7-9 or all; the first 20 when not given"""
    exclusions: Path | None = None
    """list by `kinema data score`: its reasons are shown, and its episodes are the ones drawn when none are chosen"""

    def run(self) -> int:
        """Write what was asked for and return 0."""
        from kinema.data.lerobot.reader import open_dataset

        out = self.out if self.out or self.rerun else self.directory.resolve().with_suffix(".html")
        if out is not None and out.suffix != ".html":
            raise KinemaError(f"--out {out}: expected a name that ends in .html")
        dataset = open_dataset(self.directory)
        chosen = self._chosen(dataset)
        count = f"{len(chosen)} of {len(dataset.episodes)} episodes"
        if self.rerun is not None:
            from kinema.data.view.rerun import write_rerun

            write_rerun(dataset, chosen, self.rerun)
            sys.stdout.write(f"{self.rerun}: {count}\nnext: rerun {self.rerun}\n")
        if out is not None:
            size = self._page(dataset, chosen, out)
            sys.stdout.write(f"{out}: {count}, {size / 1e6:.1f} MB\nnext: open it in a browser\n")
        return 0

    def _page(self, dataset: Dataset, chosen: tuple[int, ...], out: Path) -> int:
        from kinema.core.files import write_text
        from kinema.data.view.page import build_page

        with progress("view", len(chosen)) as tell:
            page = build_page(dataset, chosen, notes=self._notes(), progress=lambda done, _: tell(done, "episodes"))
        write_text(out, page)
        return len(page)

    def _chosen(self, dataset: Dataset) -> tuple[int, ...]:
        from kinema.data.edit.episodes import parse_episodes
        from kinema.data.exclude import excluded_episodes

        listed = excluded_episodes([self.exclusions] if self.exclusions else [], [dataset])[0]
        if self.episodes is not None:
            return parse_episodes(self.episodes, len(dataset.episodes))
        return tuple(sorted(listed)) or tuple(range(min(len(dataset.episodes), _MOST)))

    def _notes(self) -> dict[int, list[str]]:
        from kinema.data.lerobot.layout import read_json

        reasons = read_json(self.exclusions).get("reasons", {}) if self.exclusions else {}
        return {int(index): lines for index, lines in reasons.items()}
