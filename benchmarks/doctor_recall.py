"""How many of the known corruptions `kinema data doctor` finds, and how often it cries wolf on healthy datasets.

Every corruption of tests/data/doctor befalls small clean datasets of other seeds; it is found when the report holds its
check, at its episode where it has one. Written to docs/results/doctor_recall.json.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import results

from kinema.core.rng import generator
from kinema.data.doctor.diagnose import diagnose
from kinema.evaluation.intervals import Rate

sys.path.insert(0, str(results.ROOT / "tests" / "data" / "doctor"))

import corruptions
from clean_datasets import write_clean

FIRST = 1000
"""The first seed: limits of the checks were set while looking at lower ones."""
COMMAND = "python benchmarks/doctor_recall.py"
NOTES = (
    "A corruption counts as found when its check fires and names its episode, where it befell one.",
    "Seeds begin at 1000: limits of checks were set on lower ones. One rule was repaired after a first run on these: "
    "a blurred film in the dark lost all contrast and was passed over (2 of 20).",
    "A false alarm is a clean dataset with any finding at all, warnings included.",
    "Datasets are synthetic: 6 episodes of 18 to 50 rows, two cameras of 32 px; half of them packed into shared files.",
)


@dataclass(frozen=True, kw_only=True)
class Recall:
    """Measure recall and false alarms of the dataset doctor."""

    seeds: int = 20
    """datasets that each corruption befalls"""
    clean: int = 400
    """clean datasets that are examined"""
    work: Path | None = None
    """keeps what is done, so that the same command goes on; a temporary folder when not given"""
    out: Path = results.RESULTS
    """directory of the results file"""

    def run(self) -> int:
        """Write the results; returns 1 when a promise is broken."""
        with tempfile.TemporaryDirectory() as temporary:
            work = self.work or Path(temporary)
            work.mkdir(parents=True, exist_ok=True)
            figures = measure(work, seeds=self.seeds, clean=self.clean)
        command = f"{COMMAND} --seeds {self.seeds} --clean {self.clean}"
        results.write(
            "doctor_recall",
            figures,
            command=command,
            seeds=range(FIRST, FIRST + self.seeds),
            notes=NOTES,
            directory=self.out,
        )
        broken = broken_promises(figures)
        sys.stdout.write("".join(f"broken: {line}\n" for line in broken) or "all promises hold\n")
        return 1 if broken else 0


def measure(work: Path, *, seeds: int, clean: int) -> dict[str, Any]:
    """Return the figures; outcomes are kept in `work/outcomes.jsonl` and not measured again."""
    log = work / "outcomes.jsonl"
    entries = [json.loads(line) for line in log.read_text("utf-8").splitlines()] if log.is_file() else []
    known = {(name, seed): outcome for name, seed, outcome in entries}
    datasets = Datasets(work)

    def outcome(name: str, seed: int) -> Any:
        if (name, seed) not in known:
            known[name, seed] = datasets.false_alarm(seed) if name == "" else datasets.found(name, seed)
            with open(log, "a", encoding="utf-8") as file:
                file.write(json.dumps([name, seed, known[name, seed]]) + "\n")
        return known[name, seed]

    recall: dict[str, Any] = {"structural": {}, "content": {}}
    for kind, table in (("structural", corruptions.STRUCTURAL), ("content", corruptions.CONTENT)):
        pooled: list[bool] = []
        for name in table:
            hits: list[bool] = []
            seed = FIRST
            while len(hits) < seeds and seed < FIRST + 10 * seeds:
                if (hit := outcome(name, seed)) is not None:
                    hits.append(hit)
                seed += 1
            recall[kind][name] = _rate(hits)
            pooled += hits
        recall[kind] = {"all": _rate(pooled), "corruptions": recall[kind]}
    alarms = [outcome("", seed) for seed in range(FIRST, FIRST + clean)]
    return {**recall, "false_alarms": _rate(alarms), "checks": results.once(len(corruptions.ALL), "count")}


def _rate(hits: list[bool]) -> dict[str, Any]:
    return {**results.rate(Rate(sum(hits), len(hits))), "unit": "share"}


class Datasets:
    """Clean datasets, written once, and what the doctor says of them and of their corrupted copies."""

    def __init__(self, work: Path) -> None:
        self.work = work

    def clean(self, seed: int) -> Path:
        """Return the clean dataset of `seed`."""
        path = self.work / "clean" / str(seed)
        if not path.is_dir():
            staged = path.with_name(f"{seed}.tmp")
            shutil.rmtree(staged, ignore_errors=True)
            write_clean(staged, seed).rename(path)
        return path

    def found(self, name: str, seed: int) -> bool | None:
        """Return whether the corruption was found, or None where it cannot befall this dataset."""
        path = self.work / "corrupted"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(self.clean(seed), path, ignore=shutil.ignore_patterns(".cache"))
        expected = corruptions.corrupt(name, path, generator("corruption", name, seed))
        return None if expected is None else expected.met(diagnose(path))

    def false_alarm(self, seed: int) -> bool:
        """Return whether anything was found in the clean dataset of `seed`."""
        return not diagnose(self.clean(seed)).healthy


def broken_promises(figures: dict[str, Any]) -> list[str]:
    """Return which do not hold: all structural corruptions found, 95 % of content, at most 1 % false alarms."""
    broken = [
        f"{name}: found {entry['successes']} of {entry['n']}"
        for kind, least in (("structural", 1.0), ("content", 0.95))
        for name, entry in figures[kind]["corruptions"].items()
        if entry["value"] < least
    ]
    alarms = figures["false_alarms"]
    return broken + ([f"false alarms: {alarms['successes']} of {alarms['n']}"] if alarms["value"] > 0.01 else [])


if __name__ == "__main__":
    sys.exit(results.main(Recall, sys.argv[1:], prog=COMMAND))
