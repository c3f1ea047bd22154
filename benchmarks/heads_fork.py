"""Every action head on the Fork: how often it passes left and right, how often it hits the obstacle, and what it costs.

    python benchmarks/heads_fork.py                        # everything: half an hour on one core
    python benchmarks/heads_fork.py --rows "flow, 1 step"  # one row

Trains each row of benchmarks/heads_rows.py alone with three seeds, draws chunks and holds them against the row's gates.
Writes docs/results/heads_fork.json. What is measured is kept in WORK, so the same command again goes on where it
stopped; after a change of code, remove WORK.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import results
import torch
from fork_fit import Fitted, fit, untrained
from heads_rows import FORKS, GOES_ON, Row, fork_rows, given, left_out

from kinema.core.config import to_data
from kinema.core.errors import KinemaError, unknown
from kinema.core.files import write_text
from kinema.evaluation.intervals import Rate

COMMAND = "python benchmarks/heads_fork.py"
NOTES = (
    "A gate holds when every seed lies within it; rates pool all seeds with a 95 % Wilson interval.",
    "An ablation lacks what makes the system that it is named for: its gates say how it must fail.",
    "Rows that differ in how they act alone, such as 1 and 10 steps of one flow, act with the same trained weights.",
    "A head that draws nothing gives one chunk whatever the seed of the draw: it counts once a training seed.",
    "In the correlated variant left, right and invalid are shares of steps; n still counts chunks.",
    "Milliseconds are of one chunk, on one thread of the named machine, which did other work at the same time.",
    "Gates on speed count calls of the denoiser: milliseconds of rows measured hours apart do not compare.",
)
Outcome = dict[str, Any]
ROUNDING = 1e-9
"""How far a share may be outside its gate: what is left of 1 can be a rounding error below 0."""


@dataclass(frozen=True, kw_only=True)
class HeadsFork:
    """Measure the heads on the Fork; the same command again goes on where it stopped."""

    work: Path = Path("runs/bench/heads_fork")
    """directory of what is measured already"""
    out: Path = results.RESULTS
    """directory of heads_fork.json"""
    rows: tuple[str, ...] = ()
    """rows to measure; all when none is given. The others are written as far as they are known"""
    seeds: int = 3
    """training seeds of each row"""
    scale: float = 1.0
    """factor on each row's training steps; anything but 1 is for trying out the benchmark"""

    def run(self) -> int:
        """Measure and write the results; returns 1 when a gate is broken."""
        torch.set_num_threads(1)
        if self.scale != 1.0 and self.out.resolve() == results.RESULTS:
            raise KinemaError(f"--scale {self.scale:g} is for trying out: give another --out than {self.out}")
        table = fork_rows()
        for name in self.rows:
            if name not in table:
                raise unknown("row", name, table)
        for seed in range(self.seeds):
            trained: dict[str, Fitted] = {}
            for name in self.rows or table:
                if not self._known(name, table, seed):
                    self._measure(name, table, seed, trained)
        broken = broken_gates(self._write(table))
        sys.stdout.write("".join(f"broken: {line}\n" for line in broken) or "all gates hold\n")
        return 1 if broken else 0

    def _measure(self, name: str, table: Mapping[str, Row], seed: int, trained: dict[str, Fitted]) -> None:
        """Draw from one head, after training it or the row whose weights it takes; keeps what it trained."""
        row, began = table[name], time.perf_counter()
        fork, source = FORKS[row.fork], row.weights or name
        if source not in trained:
            config, size = table[source].config, table[source].batch
            trained[source] = fit(config, fork, steps=self._steps(table[source]), seed=seed, batch=size)
        fitted = trained[source].acting_as(row.config)
        trained_s = time.perf_counter() - began
        chunks = fitted.sample(row.count, seed)
        distinct = chunks[:1] if np.allclose(chunks, chunks[:1], atol=1e-5) else chunks
        modes = fork.judge(distinct)
        outcome = {
            "of": self._of(name, table),
            "n": len(distinct),
            **{measure: getattr(modes, measure) for measure in ("left", "right", "cover", "invalid")},
            "parameters": fitted.parameters,
            "sample_ms": fitted.sample_ms,
            "trained_s": trained_s,
        }
        write_text(self._path(name, seed), json.dumps(outcome, indent=1) + "\n")
        sys.stderr.write(f"{name}, seed {seed}: {modes}, {trained_s:.0f} s\n")

    def _known(self, name: str, table: Mapping[str, Row], seed: int) -> Outcome | None:
        """Return what was measured for just this, or None."""
        path = self._path(name, seed)
        outcome = json.loads(path.read_text("utf-8")) if path.is_file() else None
        return outcome if outcome and outcome["of"] == self._of(name, table) else None

    def _of(self, name: str, table: Mapping[str, Row]) -> Outcome:
        """Return what an outcome is of; another configuration or number of steps is measured anew."""
        row, source = table[name], table[table[name].weights or name]
        numbers = {"steps": self._steps(source), "batch": source.batch, "count": row.count}
        return {"config": to_data(row.config), "trained": to_data(source.config), "fork": row.fork, **numbers}

    def _steps(self, row: Row) -> int:
        return max(1, round(self.scale * row.steps))

    def _path(self, name: str, seed: int) -> Path:
        self.work.mkdir(parents=True, exist_ok=True)
        return self.work / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.{seed}.json"

    def _write(self, table: Mapping[str, Row]) -> dict[str, Any]:
        """Write what is known so far; returns the figures."""
        known: dict[str, list[Outcome]] = {}
        for name in table:
            found = [self._known(name, table, seed) for seed in range(self.seeds)]
            known[name] = [outcome for outcome in found if outcome]
        figures = {name: _figures(name, table, known, self.seeds) for name in table}
        figures |= {name: results.unavailable(reason) for name, reason in left_out().items()}
        command = COMMAND + given(self, "seeds", "scale")
        results.write("heads_fork", figures, command=command, seeds=range(self.seeds), notes=NOTES, directory=self.out)
        return figures


def _figures(name: str, table: Mapping[str, Row], known: Mapping[str, Sequence[Outcome]], seeds: int) -> dict[str, Any]:
    """Return what the page shows of one row."""
    row, outcomes = table[name], known[name]
    if len(outcomes) < seeds:
        return results.unavailable(f"measured with {len(outcomes)} of {seeds} seeds")
    return {
        "head": type(row.config).__name__,
        "fork": row.fork,
        "kind": row.kind,
        "training steps": outcomes[0]["of"]["steps"],
        "cover": results.repeated([outcome["cover"] for outcome in outcomes], "share"),
        **{measure: _pooled(measure, outcomes) for measure in ("left", "right", "invalid")},
        "parameters": results.once(outcomes[0]["parameters"], "count"),
        "sample": results.repeated([outcome["sample_ms"] for outcome in outcomes], "ms"),
        "gates": dict(_gates(row, outcomes, table, known)),
    }


def _pooled(measure: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    hits = round(sum(outcome[measure] * outcome["n"] for outcome in outcomes))
    return {**results.rate(Rate(hits, sum(outcome["n"] for outcome in outcomes))), "unit": "share"}


def _gates(
    row: Row, outcomes: Sequence[Outcome], table: Mapping[str, Row], known: Mapping[str, Sequence[Outcome]]
) -> Any:
    """Yield each gate in words and whether it "holds"."""
    for measure, (low, high) in row.gates.items():
        held = [low - ROUNDING <= outcome[measure] <= high + ROUNDING for outcome in outcomes]
        yield f"{measure} in [{low:g}, {high:g}]", _verdict(held)
    if row.near and len(known[row.near[0]]) == len(outcomes):
        other, gap = row.near
        pairs = zip(outcomes, known[other], strict=True)
        held = [abs(mine["invalid"] - theirs["invalid"]) <= gap for mine, theirs in pairs]
        yield f"invalid within {gap:g} of {other}", _verdict(held)
    if row.fewer:
        other, times = row.fewer
        mine, theirs = (untrained(each.config, FORKS[each.fork]).calls for each in (row, table[other]))
        said = "holds" if 0 < times * mine <= theirs else f"broken: {mine} calls, {theirs} there"
        yield f"{times:g} times fewer denoiser calls than {other}", said


def _verdict(held: Sequence[bool]) -> str:
    return "holds" if all(held) else f"broken by {held.count(False)} of {len(held)} seeds"


def broken_gates(figures: Mapping[str, Any]) -> list[str]:
    """Return the gates that do not hold and the rows that are not measured."""
    broken = []
    for name, row in figures.items():
        if row.get("unavailable", GOES_ON) != GOES_ON:
            broken.append(f"{name}: {row['unavailable']}")
        broken += [f"{name}: {gate} {said}" for gate, said in row.get("gates", {}).items() if said != "holds"]
    return broken


if __name__ == "__main__":
    sys.exit(results.main(HeadsFork, sys.argv[1:], prog="heads_fork"))
