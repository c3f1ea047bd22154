"""Record expert demonstrations of a suite's tasks as a LeRobotDataset."""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import tyro
from typing_extensions import Annotated

from kinema.cli.progress import progress
from kinema.cli.suites import make_suite, split_names
from kinema.core.errors import KinemaError


@dataclass(frozen=True, kw_only=True)
class Record:
    """Roll out the suite's scripted experts and write the successful episodes to a LeRobotDataset v3.0 directory.

    The same command again goes on where it stopped. Other options (cameras, size ...) belong to the suite.
    """

    suite: Annotated[str, tyro.conf.Positional]
    """suite to record, see `kinema list suites`"""
    tasks: str
    """tasks or selections, separated by commas: drawer-open,window-close or mt10"""
    out: Path
    """directory of the dataset"""
    episodes: int = 25
    """successful episodes of each task"""
    seed: int = 0
    """initial states are a function of seed, task and episode number"""
    noise: float = 0.0
    """standard deviation, in action units, of noise on what is executed; the label stays the clean action"""
    workers: int = os.cpu_count() or 1
    """processes that simulate"""
    overrides: Annotated[tuple[str, ...], tyro.conf.Suppress] = ()

    def run(self) -> int:
        """Record, then say what was kept; returns 1 when a task gave fewer successes than asked."""
        from kinema.data.lerobot.writer import DatasetWriter
        from kinema.sim.collect import Collection, collect

        if self.episodes < 1 or self.workers < 1 or self.noise < 0:
            raise KinemaError(
                f"--episodes {self.episodes} and --workers {self.workers} must be at least 1, --noise {self.noise} at least 0"
            )
        suite = make_suite(self.suite, self.overrides, f"kinema record {self.suite}")
        tasks = suite.select(split_names(self.tasks, "--tasks"))
        plan = Collection(tasks=tasks, episodes=self.episodes, seed=self.seed, noise=self.noise)
        source = {"suite": suite, "seed": self.seed, "noise": self.noise}
        writer = DatasetWriter(self.out, suite.spec, provenance={**source, "command": sys.argv[1:]})
        done = {(str(origin["task"]), int(origin["episode"])) for origin in writer.origins}
        kept = Counter(task for task, _ in done)
        tried: Counter[str] = Counter()
        total = len(tasks) * self.episodes
        with progress("record", total) as tell:
            for attempt in collect(suite, plan, done=done, workers=self.workers):
                tried[attempt.start.task] += 1
                if attempt.episode is not None:
                    writer.append(attempt.episode)
                    kept[attempt.start.task] += 1
                here = sum(min(kept[task], self.episodes) for task in tasks)
                tell(
                    here,
                    f"{attempt.start.task}: {kept[attempt.start.task]} kept of {tried[attempt.start.task]} tried now",
                )
        return self._summary(tasks, kept, tried, len(done))

    def _summary(self, tasks: tuple[str, ...], kept: Counter[str], tried: Counter[str], before: int) -> int:
        new = sum(kept[task] for task in tasks) - before
        failed = sum(tried.values()) - new
        sys.stdout.write(
            f"{self.out}: {sum(kept.values())} episodes ({before} were there); tried {sum(tried.values())}, {failed} failed\n"
        )
        short = {task: kept[task] for task in tasks if kept[task] < self.episodes}
        for task, count in short.items():
            sys.stdout.write(
                f"  {task}: only {count} of {self.episodes} after {tried[task]} tries; less noise may help\n"
            )
        sys.stdout.write(f"next: kinema train metaworld-mt10 --data {self.out} --out runs/first\n" if not short else "")
        return 1 if short else 0
