"""Show the statistics of a dataset's vectors and actions, with their units."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from kinema.core.spec import ACTION

if TYPE_CHECKING:
    from kinema.core.spec import RobotSpec
    from kinema.core.transform import Statistics

_SHOWN = ("mean", "std", "min", "q01", "q50", "q99", "max")


@dataclass(frozen=True, kw_only=True)
class Stats:
    """Show mean, deviation, quantiles and range of each component of every vector and of the action."""

    directory: Annotated[Path, tyro.conf.Positional]
    """a dataset"""
    episodes: str = "all"
    """episodes by index: 3,7-9 or all"""
    transform: str | None = None
    """statistics of what package.module:thing makes of each window, such as relative actions"""
    pred_horizon: int = 1
    """with --transform: steps of action in a window"""
    json: Path | None = None
    """also write the table to this file"""

    def run(self) -> int:
        """Print the table and return 0."""
        from kinema.core.files import write_text
        from kinema.data.edit.episodes import parse_episodes
        from kinema.data.lerobot.reader import open_dataset
        from kinema.data.stats import statistics

        dataset = open_dataset(self.directory)
        episodes = parse_episodes(self.episodes, len(dataset.episodes))
        table = statistics(dataset, episodes) if self.transform is None else self._transformed(dataset, episodes)
        _print(table, dataset.spec, f"{self.directory}: {len(episodes)} episodes")
        if self.json is not None:
            write_text(self.json, _text(table))
            sys.stdout.write(f"written to {self.json}\n")
        return 0

    def _transformed(self, dataset: Any, episodes: tuple[int, ...]) -> Statistics:
        from kinema.core.errors import KinemaError
        from kinema.core.names import locate
        from kinema.core.transform import Transform
        from kinema.data.stats import streamed
        from kinema.data.windows import Windows

        name = str(self.transform)
        found = locate(name)
        if isinstance(found, type) and issubclass(found, Transform):
            try:
                found = found()
            except TypeError as error:
                raise KinemaError(f"--transform {name}: {error}\nfix: name an instance, not the class") from error
        if isinstance(found, Transform):
            transform = found
            found = lambda sample: transform.forward(sample)[0]  # noqa: E731
        if not callable(found):
            raise KinemaError(f"--transform {name}: expected a Transform or a function of a sample, not {found!r:.60}")
        keys = [vector.key for vector in dataset.spec.observation.vectors]
        windows = Windows(dataset, obs_horizon=1, pred_horizon=self.pred_horizon, keys=keys, episodes=episodes)
        return streamed(windows, found)


def _print(table: Statistics, spec: RobotSpec, title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    known = {vector.key: (vector.components, vector.units) for vector in spec.observation.vectors}
    known[ACTION] = (spec.action.components, spec.action.units)
    shown = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("", "component", "unit"):
        shown.add_column(name, overflow="fold")
    for name in _SHOWN:
        shown.add_column(name, justify="right", no_wrap=True)
    for key, entry in table.items():
        width = len(entry["mean"])
        components, units = known.get(key, ((), ()))
        if len(components) != width:
            # A transform may change what the components are; then they are only numbered.
            components, units = tuple(str(i) for i in range(width)), ("?",) * width
        for i, (component, unit) in enumerate(zip(components, units, strict=True)):
            shown.add_row("" if i else key, component, unit, *(f"{entry[name][i]:.4g}" for name in _SHOWN))
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 140).print(shown)


def _text(table: Statistics) -> str:
    plain = {key: {name: value.tolist() for name, value in entry.items()} for key, entry in table.items()}
    return json.dumps(plain, indent=2) + "\n"
