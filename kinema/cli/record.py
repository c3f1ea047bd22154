"""Record expert demonstrations of a suite's tasks as a LeRobotDataset."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from kinema.cli.interrupts import spared
from kinema.cli.progress import progress
from kinema.cli.suites import make_suite, split_names
from kinema.core.config import to_data
from kinema.core.errors import KinemaError
from kinema.core.manifest import cores


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
    workers: int = cores()
    """processes that simulate"""
    overrides: Annotated[tuple[str, ...], tyro.conf.Suppress] = ()

    def run(self) -> int:
        """Record, then say what was kept; returns 1 when a task gave fewer successes than asked."""
        from kinema.sim.collect import Collection

        if self.episodes < 1 or self.workers < 1 or self.noise < 0:
            raise KinemaError(
                f"--episodes {self.episodes} and --workers {self.workers} must be at least 1, "
                f"--noise {self.noise} at least 0"
            )
        suite = make_suite(self.suite, self.overrides, f"kinema record {self.suite}")
        tasks = suite.select(split_names(self.tasks, "--tasks"))
        plan = Collection(tasks=tasks, episodes=self.episodes, seed=self.seed, noise=self.noise)
        source = {"seed": self.seed, "noise": self.noise, "suite": suite}
        self._refuse_another(source)
        provenance = {**source, "command": self._command()}
        code = record_attempts(suite, plan, self.out, provenance, workers=self.workers)
        if code == 0:
            sys.stdout.write(f"next: kinema train RECIPE --data {self.out} --out RUN (`kinema list recipes`)\n")
        return code

    def _command(self) -> str:
        """Return the command without what changes no episode (place, processes), so that equal data has one hash."""
        options = {"--tasks": self.tasks, "--episodes": self.episodes, "--seed": self.seed, "--noise": self.noise}
        words = [str(word) for option in options.items() for word in option]
        return shlex.join(["kinema", "record", self.suite, *words, *self.overrides])

    def _refuse_another(self, source: Mapping[str, Any]) -> None:
        """Refuse to go on with another seed, noise or suite option: what is there would not be what is asked for."""
        from kinema.data.lerobot import layout

        if not (self.out / layout.INFO).is_file():
            return
        asked = _flat(to_data(source))
        for entry in layout.read_kinema(self.out)["provenance"]:
            for name, before in _flat(entry).items():
                # What differs in cameras and sizes is reported in the words of the spec, by the writer.
                if name in asked and name not in ("cameras", "size", "full_state") and before != asked[name]:
                    raise KinemaError(
                        f"{self.out} was recorded with {name} {before}, not {asked[name]}\n"
                        f"fix: give that --{name.replace('_', '-')} to go on, or another --out"
                    )


def record_attempts(suite: Any, plan: Any, out: Path, provenance: Mapping[str, Any], *, workers: int) -> int:
    """Write the successful attempts of `plan` to the dataset at `out` and say what was kept; returns 1 for too few."""
    from kinema.data.lerobot.writer import DatasetWriter
    from kinema.sim.collect import collect
    from kinema.train.signals import stop_on_signal

    writer = DatasetWriter(out, suite.spec, provenance=provenance)
    done = {(str(origin["task"]), int(origin["episode"])) for origin in writer.origins}
    kept, tried = Counter(task for task, _ in done), Counter[str]()
    before = sum(kept[task] for task in plan.tasks)
    with progress("record", len(plan.tasks) * plan.episodes) as tell, stop_on_signal() as stop:
        for attempt in spared(collect(suite, plan, done=done, workers=workers)):
            task = attempt.start.task
            tried[task] += 1
            if attempt.episode is not None:
                writer.append(attempt.episode)
                kept[task] += 1
            here = sum(min(kept[name], plan.episodes) for name in plan.tasks)
            tell(here, f"{task}: {kept[task]} kept of {tried[task]} tried now")
            if stop.requested:
                raise KeyboardInterrupt
    there = sum(kept[task] for task in plan.tasks)
    failed = sum(tried.values()) - (there - before)
    sys.stdout.write(f"{out}: {there} episodes ({before} were there); tried {sum(tried.values())}, {failed} failed\n")
    short = [task for task in plan.tasks if kept[task] < plan.episodes]
    for task in short:
        sys.stdout.write(
            f"  {task}: only {kept[task]} of {plan.episodes} after {tried[task]} tries; less noise may help\n"
        )
    return 1 if short else 0


def _flat(source: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain provenance with the suite's options beside its own entries; `suite` is then its class."""
    options = dict(source.get("suite", {}))
    return {**source, "suite": options.pop("type", None), **options}
