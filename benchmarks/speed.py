"""How fast kinema is here: rendering, recording, training, loading, inference, start-up, and memory of each.

    python benchmarks/speed.py                 # a quarter of an hour on two cores, into docs/results/speed.json
    python benchmarks/speed.py --only training # some parts only; the others stay as they were measured
    python benchmarks/speed.py --quick         # seconds a part, to see that it works; into WORK, not into docs

Run it on an idle machine. Every part runs in a process of its own, so that one part's memory, threads and graphics
context do not touch another's. A finished part is kept in WORK/partial.json and not measured again, unless --again is
given or the machine or a version has changed.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import results

from kinema.core.errors import KinemaError, unknown
from kinema.core.files import write_text

RECIPES = ("metaworld-demo", "metaworld-mt10")
BACKENDS = ("egl", "osmesa")
WORKER = Path(__file__).with_name("speed_parts.py")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One process to start: what it measures, with which options and environment variables."""

    name: str
    part: str
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Measure speed and memory; the same command again goes on where it stopped."""

    quick: bool = False
    """a few repeats of everything, to see that it works; writes WORK/quick/speed.json"""
    only: str = ""
    """parts to measure, separated by commas; all when empty"""
    again: bool = False
    """measure again what was measured before"""
    work: Path = Path("runs/bench/speed")
    """directory of partial results"""
    out: Path = results.RESULTS
    """directory of speed.json"""

    def run(self) -> int:
        """Measure every part that is still missing, and write the results after each."""
        jobs = self.jobs()
        partial = self._partial()
        for number, job in enumerate(jobs, start=1):
            if job.name in partial and not self.again:
                continue
            sys.stderr.write(f"[{number}/{len(jobs)}] {job.name}\n")
            partial[job.name] = run_job(job)
            self._keep(partial)
            self.write(partial)
        sys.stdout.write(f"{self.write(partial)}\n")
        return 0

    def jobs(self) -> list[Job]:
        """Return what is to be measured, in order."""
        jobs = plan(quick=self.quick)
        parts = list(dict.fromkeys(job.part for job in jobs))
        asked = [name.strip() for name in self.only.split(",")] if self.only else parts
        for name in asked:
            if name not in parts:
                raise unknown("part", name, parts)
        return [job for job in jobs if job.part in asked]

    def write(self, partial: Mapping[str, Any]) -> Path:
        """Write what is known so far to speed.json; returns its path."""
        jobs = plan(quick=self.quick)
        directory = self._directory if self.quick else self.out
        return results.write(
            "speed",
            figures_of(partial),
            command="python benchmarks/speed.py" + " --quick" * self.quick,
            seeds=[0],
            notes=NOTES,
            directory=directory,
            missing=[job.name for job in jobs if job.name not in partial],
        )

    @property
    def _directory(self) -> Path:
        return self.work / "quick" if self.quick else self.work

    def _partial(self) -> dict[str, Any]:
        path = self._directory / "partial.json"
        if not path.is_file():
            return {}
        try:
            stored = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise KinemaError(f"cannot read {path}: {error}; remove it to start anew") from error
        if stored["machine"] != results.machine():
            sys.stderr.write(f"{path} is from another machine or other versions: starting anew\n")
            return {}
        return stored["parts"]

    def _keep(self, partial: Mapping[str, Any]) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        document = {"machine": results.machine(), "parts": partial}
        write_text(self._directory / "partial.json", json.dumps(document, indent=1) + "\n")


NOTES = (
    "Values are medians; training, loading and inference run on synthetic pictures, whose content changes no speed.",
    "Peak memory is the largest resident memory of the process, libraries included, and of its largest child.",
)


def plan(*, quick: bool) -> list[Job]:
    """Return every process of the benchmark."""
    few = 2 if quick else 7
    sample_s = 0.02 if quick else 0.5
    sizes = [64, 96] if quick else [64, 96, 128, 256]
    rendering = {"sizes": sizes, "repeats": few, "sample_s": sample_s}
    jobs = [
        Job(name=f"rendering/{name}", part="rendering", options=rendering, environment={"MUJOCO_GL": name})
        for name in BACKENDS
    ]
    recording = {"repeats": 1 if quick else 3, "episodes": 3 if quick else 9, "workers": 2}
    jobs.append(Job(name="recording", part="recording", options=recording))
    for recipe in RECIPES:
        short = recipe.removeprefix("metaworld-")
        training = {"recipe": recipe, "rounds": 1 if quick else 4, "window": 1 if quick else 10, "windows": 2}
        jobs.append(Job(name=f"training/{short}", part="training", options=training))
        loading = {"recipe": recipe, "repeats": few, "batches": 2 if quick else 20}
        jobs.append(Job(name=f"loading/{short}", part="loading", options=loading))
        inference = {"recipe": recipe, "batches": [1, 8], "calls": 5 if quick else 300}
        jobs.append(Job(name=f"inference/{short}", part="inference", options=inference))
        kept = {"recipe": recipe, "pairs": 1 if quick else 4, "window": 1 if quick else 10, "windows": 2}
        jobs.append(Job(name=f"allocator/{short}", part="allocator", options=kept))
    return [*jobs, Job(name="start-up", part="start-up", options={"repeats": few if quick else 5})]


def run_job(job: Job) -> dict[str, Any]:
    """Return what a process of its own measured for `job`; what this machine cannot do is said, not raised."""
    environment = {**os.environ, **job.environment}
    environment.pop("KINEMA_GL_CHECKED", None)  # a choice made by whoever started this would hide MUJOCO_GL
    command = [sys.executable, str(WORKER), job.part, json.dumps(dict(job.options))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)  # noqa: S603 - our own file
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise KinemaError(f"{job.name} failed with {done.returncode}: {last}\ncommand: {shlex.join(command)}")
    return json.loads(lines[-1])


def figures_of(partial: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts as one tree, without their partial file's bookkeeping."""
    tree: dict[str, Any] = {}
    for name, part in partial.items():
        group, _, member = name.partition("/")
        if member:
            tree.setdefault(group, {})[member] = part
        else:
            tree[group] = part
    return tree


def main(arguments: list[str]) -> int:
    """Return the exit code of the benchmark run with `arguments`."""
    return results.main(Speed, arguments, prog="speed")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
