"""Record, train, evaluate and report on four Meta-World tasks: the main job, in minutes, with nothing to download."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kinema.core.manifest import cores

TASKS = "demo"
EPISODES = 25


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Record 25 demonstrations of each of four tasks, train a language-conditioned policy, evaluate it, write a report.

    Interrupt it when you like: the same command goes on where it stopped.
    """

    out: Path = Path("runs/demo")
    """directory for the dataset, the run and the report"""
    workers: int = cores()
    """processes that simulate"""

    def run(self) -> int:
        """Run the four stages and say what to do next."""
        from kinema.cli.evaluate import Evaluate
        from kinema.cli.record import Record
        from kinema.cli.train import Train

        data, run = self.out / "data", self.out / "run"
        cameras = ("--cameras", "corner_table", "gripperPOV", "--size", "64")
        record = Record(
            suite="metaworld",
            tasks=TASKS,
            out=data,
            episodes=EPISODES,
            noise=0.3,
            workers=self.workers,
            overrides=cameras,
        )
        envs = 4 * self.workers
        stages: list[tuple[str, Callable[[], int]]] = [
            ("record", record.run),
            ("train", Train(recipe="metaworld-demo", data=data, out=run).run),
            ("evaluate", Evaluate(run_directory=run, tasks=TASKS, episodes=EPISODES, controls=5, envs=envs).run),
        ]
        times = []
        for number, (name, stage) in enumerate(stages, start=1):
            sys.stderr.write(f"[{number}/{len(stages)}] {name}\n")
            began = time.monotonic()
            code = stage()
            times.append(f"{name} {time.monotonic() - began:.0f} s")
            if code != 0:
                return code
        place = shlex.quote(str(self.out))
        sys.stdout.write(
            f"\ndone: {', '.join(times)}\n"
            f"  look:    open {place}/run/report.html in a browser\n"
            f"  inspect: kinema info {place}/run\n"
            "  more:    kinema record metaworld --tasks mt10 --episodes 25 --out data/mt10\n"
            "           kinema train metaworld-mt10 --data data/mt10 --out runs/mt10\n"
            "           kinema eval runs/mt10\n"
        )
        return 0
