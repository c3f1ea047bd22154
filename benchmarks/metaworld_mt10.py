"""Meta-World MT10: success rates of the recipe `metaworld-mt10` with controls, and of ablations compared in pairs.

    python benchmarks/metaworld_mt10.py                          # everything: a day on two cores
    python benchmarks/metaworld_mt10.py --rows main              # the main row: two hours
    python benchmarks/metaworld_mt10.py --rows reference,no-ema  # some of the ablations

Records demonstrations into WORK/data, trains each row into WORK/<row>, evaluates it as `kinema eval` does, and writes
docs/results/metaworld_mt10.json after every row; rows that were not measured yet are named there as missing. The same
command again goes on where it stopped, even in the middle of a training. All rows play the same initial states.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import mt10_rows
import mt10_summary
import results

from kinema.core.errors import KinemaError
from kinema.core.manifest import cores

SUITE = "metaworld"
EXCLUDED = ("work", "out", "rows", "envs", "workers")
"""Options that change no number, and so do not belong to the command that makes the numbers again."""


@dataclass(frozen=True, kw_only=True)
class Mt10:
    """Measure the MT10 rows; the same command again goes on where it stopped."""

    work: Path = Path("runs/bench/mt10")
    """directory of the dataset and of a run directory for each row"""
    out: Path = results.RESULTS
    """directory of metaworld_mt10.json"""
    rows: str = ""
    """rows to measure, separated by commas; all when empty"""
    tasks: str = "mt10"
    """tasks or selections; anything but mt10 is for trying out the benchmark"""
    demos: int = 25
    """demonstrations of each task"""
    size: int = 96
    """width and height of the recorded pictures, px"""
    noise: float = 0.5
    """standard deviation, in action units, of the noise on what the expert executes"""
    episodes: int = 25
    """evaluation episodes of each task in the main row"""
    controls: int = 10
    """evaluation episodes of each task in each control of the main row"""
    ablation_steps: int = 1200
    """training steps of every row but the main one"""
    ablation_episodes: int = 10
    """evaluation episodes of each task in every row but the main one"""
    chunk_1_episodes: int = 5
    """evaluation episodes of each task in the row chunk-1, which renders every step and is slow"""
    record_seed: int = 0
    """seed of the recorded initial states"""
    seed: int = 1000
    """seed of the evaluated initial states"""
    workers: int = cores()
    """processes that record"""
    envs: int = 4 * cores()
    """environments that evaluate at once"""

    def run(self) -> int:
        """Record, then train and evaluate each row, and write the results after each."""
        wanted = mt10_rows.select(self.rows)
        self.write()
        code = self.record()
        for name in wanted if code == 0 else ():
            code = self.measure(self.row(name))
            path = self.write()
            if code:
                break
            sys.stdout.write(f"{name}: {path}\n")
        return code

    def row(self, name: str) -> mt10_rows.Row:
        """Return the row called `name`, with this benchmark's sizes."""
        episodes = {mt10_rows.MAIN: self.episodes, "chunk-1": min(self.chunk_1_episodes, self.ablation_episodes)}
        return mt10_rows.Row(
            name=name,
            recipe=mt10_rows.recipe_of(name, self.ablation_steps),
            episodes=episodes.get(name, self.ablation_episodes),
            controls=self.controls if name == mt10_rows.MAIN else 0,
        )

    @property
    def command(self) -> str:
        """The command that makes the same numbers, without the options that change none."""
        given = [f for f in fields(self) if f.name not in EXCLUDED and getattr(self, f.name) != f.default]
        words = [word for f in given for word in (f"--{f.name.replace('_', '-')}", str(getattr(self, f.name)))]
        return shlex.join(["python", "benchmarks/metaworld_mt10.py", *words])

    def record(self) -> int:
        """Record the demonstrations that are still missing; returns an exit code."""
        from kinema.cli.record import Record

        data = self.work / "data"
        asked = {"seed": self.record_seed, "noise": self.noise, "size": self.size, "cameras": list(mt10_rows.RECORDED)}
        there = mt10_summary.data_facts(data)
        differing = [
            f"{name} {there[name]!r}, not {asked[name]!r}" for name in asked if there and there[name] != asked[name]
        ]
        if differing:
            raise KinemaError(f"{data} was recorded with {'; '.join(differing)}; remove it or choose another --work")
        if mt10_summary.recorded(data, self.task_names(), self.demos):
            return 0
        overrides = ("--cameras", *mt10_rows.RECORDED, "--size", str(self.size))
        options = {"tasks": self.tasks, "out": data, "episodes": self.demos, "seed": self.record_seed}
        options |= {"noise": self.noise, "workers": self.workers}
        with typed("record", SUITE, *_words(options), *overrides):
            return Record(suite=SUITE, **options, overrides=overrides).run()

    def task_names(self) -> tuple[str, ...]:
        """Return the tasks that are measured."""
        from kinema.cli.suites import make_suite, split_names

        return make_suite(SUITE, (), "metaworld_mt10").select(split_names(self.tasks, "--tasks"))

    def measure(self, row: mt10_rows.Row) -> int:
        """Train and evaluate one row, unless that was done before; returns an exit code."""
        from kinema.cli.train import train

        run = self.work / row.name
        problem = mt10_summary.trained_otherwise(run, row)
        if problem:
            raise KinemaError(f"{run}: {problem}; remove it or choose another --work")
        if not (run / "run.json").exists():
            sys.stderr.write(f"[{row.name}] train: {mt10_rows.DESCRIPTIONS[row.name]}\n")
            code = train(row.recipe, self.work / "data", run)
            if code:
                return code
            _say_command(run, f"{self.command} --rows {row.name}")
        if mt10_summary.evaluation_of(run, row.episodes, self.seed) is None:
            sys.stderr.write(f"[{row.name}] evaluate: {row.episodes} episodes of each task\n")
            self.evaluate(row)
        return 0

    def evaluate(self, row: mt10_rows.Row) -> None:
        """Evaluate one row as `kinema eval` does, and write its report."""
        from kinema.cli.evaluate import Evaluate
        from kinema.cli.report import write_report
        from kinema.cli.suites import make_suite

        run = self.work / row.name
        options = {"suite": SUITE, "tasks": self.tasks, "episodes": row.episodes, "controls": row.controls}
        options |= {"seed": self.seed, "envs": self.envs}
        with typed("eval", str(run), *_words(options)):
            suite = make_suite(SUITE, (), "metaworld_mt10")
            Evaluate(run_directory=run, **options).evaluate(suite, self.task_names())
        write_report(run)

    def write(self) -> Path:
        """Write what is known so far to metaworld_mt10.json; returns its path."""
        figures, summary = mt10_summary.summarise(
            self.work,
            [self.row(name) for name in mt10_rows.DESCRIPTIONS],
            tasks=self.task_names(),
            seed=self.seed,
        )
        return results.write(
            "metaworld_mt10",
            figures,
            command=self.command,
            seeds=[self.record_seed, self.seed],
            notes=NOTES,
            directory=self.out,
            **summary,
        )


NOTES = (
    "One training seed for each row, so intervals cover the chance of initial states, not that of training.",
    "Initial states are a function of seed, task and episode number; every row plays the same ones, in pairs.",
    "Rates are means of task rates with 95 % Wilson intervals; p-values are exact McNemar, adjusted after Holm.",
    "Training seconds are wall time on the named machine, the held-out loss and checkpoints included.",
)


@contextmanager
def typed(*words: str) -> Iterator[None]:
    """Make manifests that are written meanwhile name the `kinema` command that does the same thing."""
    before = sys.argv
    sys.argv = ["kinema", *words]
    try:
        yield
    finally:
        sys.argv = before


def _words(options: dict[str, Any]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def _say_command(run: Path, command: str) -> None:
    """Name the benchmark as what trained the run: most rows cannot be typed as one `kinema train` command."""
    from kinema.core.files import write_text

    path = run / "run.json"
    manifest = json.loads(path.read_text("utf-8"))
    write_text(path, json.dumps({**manifest, "command": command}, indent=2) + "\n")


def main(arguments: list[str]) -> int:
    """Return the exit code of the benchmark run with `arguments`."""
    return results.main(Mt10, arguments, prog="metaworld_mt10")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
