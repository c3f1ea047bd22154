"""Make many demonstrations from few: recorded segments are moved to the objects of new scenes, successes are kept."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro

from kinema.cli.record import record_attempts
from kinema.cli.suites import make_suite
from kinema.core.errors import DataError, KinemaError
from kinema.core.manifest import cores

if TYPE_CHECKING:
    from kinema.data.lerobot.reader import Dataset

_STATE = "vector.full_state"


@dataclass(frozen=True, kw_only=True)
class Generate:
    """Generate demonstrations of the tasks in SOURCE as MimicGen does and write those that succeed to another dataset.

    SOURCE holds the full state: `kinema record metaworld --full-state ...`. The same command again goes on where it
    stopped.
    """

    source: Annotated[Path, tyro.conf.Positional]
    """dataset of a few demonstrations with the full state"""
    out: Path
    """directory of the generated dataset"""
    suite: str = "metaworld"
    """suite of the demonstrations, see `kinema list suites`"""
    episodes: int = 100
    """successful episodes of each task"""
    seed: int = 1
    """initial states are a function of seed, task and episode number; another than that of the demonstrations"""
    noise: float = 0.0
    """standard deviation, in action units, of noise on what is executed; the label stays the clean action"""
    workers: int = cores()
    """processes that simulate"""

    def run(self) -> int:
        """Generate, then say what was kept; returns 1 when a task gave fewer successes than asked."""
        from kinema.data.lerobot.reader import open_dataset
        from kinema.sim.collect import Collection
        from kinema.sim.mimicgen import MimicGen

        if self.episodes < 1 or self.workers < 1 or self.noise < 0:
            raise KinemaError(
                f"--episodes {self.episodes} and --workers {self.workers} must be at least 1, "
                f"--noise {self.noise} at least 0"
            )
        dataset = open_dataset(self.source)
        suite = make_suite(self.suite, (), "kinema data generate").offering(dataset.spec.observation)
        demonstrations = self._demonstrations(dataset, suite)
        generator = MimicGen(suite=suite, demonstrations=demonstrations)
        plan = Collection(tasks=tuple(demonstrations), episodes=self.episodes, seed=self.seed, noise=self.noise)
        words = ["--episodes", str(self.episodes), "--seed", str(self.seed), "--noise", str(self.noise)]
        provenance = {
            "generator": "mimicgen",
            "source": dataset.content_hash,
            "command": shlex.join(["kinema", "data", "generate", str(self.source), *words]),
        }
        code = record_attempts(generator, plan, self.out, provenance, workers=self.workers)
        if code == 0:
            sys.stdout.write(f"next: kinema train RECIPE --data {self.out} --out RUN (`kinema list recipes`)\n")
        return code

    def _demonstrations(self, dataset: Dataset, suite: Any) -> dict[str, tuple[Any, ...]]:
        """Return the segments of every demonstration by task."""
        from kinema.sim.mimicgen import cut

        if _STATE not in dataset.spec.observation.keys:
            raise DataError(
                f"{self.source} has no {_STATE!r}, so where the objects were is unknown\n"
                f"fix: kinema record {self.suite} --full-state ..."
            )
        states, actions = dataset.column(_STATE).astype(np.float64), dataset.column("action").astype(np.float64)
        found: dict[str, tuple[Any, ...]] = {}
        for episode in dataset.episodes:
            task = str(episode.origin.get("task", ""))
            if episode.origin.get("seed") == self.seed:
                raise KinemaError(f"--seed {self.seed} is that of the demonstrations: their scenes would come again")
            rows = slice(episode.start, episode.start + episode.length)
            found[task] = (*found.get(task, ()), cut(task, states[rows], actions[rows], suite.objects))
        return found
