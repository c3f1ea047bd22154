"""Every preset at its small size, trained from nothing: does it follow the instruction, what does it cost?

    python benchmarks/policies.py                     # everything: Lang-Reach, then MW-3 with cameras
    python benchmarks/policies.py --suites lang-reach # one suite
    python benchmarks/policies.py --rows pi0 ACT      # some presets

All presets of a suite share demonstrations and evaluated initial states. Writes docs/results/policies.json after every
row. The same command again goes on where it stopped, even in the middle of a training.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import results
import torch
from heads_rows import given
from kept_runs import KeptRuns
from policies_rows import ROWS
from policies_sizes import published

from kinema.core.errors import KinemaError, unknown
from kinema.core.files import write_text
from kinema.core.manifest import cores
from kinema.evaluation.intervals import MeanRate, Rate
from kinema.evaluation.results import ArmResult
from kinema.recipes.base import Recipe

COMMAND = "python benchmarks/policies.py"
NOTES = (
    "Every preset learns from nothing, at the size and with the settings of benchmarks/policies_rows.py.",
    "Lang-Reach: a picture of 48 x 48 px with three coloured targets; a policy that does not listen reaches a third. "
    "Told another task counts how often the policy still reaches the target that it was not told of.",
    "MW-3: reach, button-press-topdown and drawer-close from two cameras of 64 px.",
    "Rates are means over tasks, all training seeds together, with 95 % Wilson intervals; initial states are the same "
    "for all presets and seeds.",
    "Training minutes are wall time on the named machine, which did other work at the same time; milliseconds of a "
    "chunk are the median of twenty calls for one robot.",
    "Published parameters are counted in the preset at its published size, of one camera (Octo: two), a state of 7 and "
    "an action of 7 numbers; frozen sentence encoders are not counted.",
)
CALLS = 20


@dataclass(frozen=True, kw_only=True)
class Fixture:
    """A suite, what is recorded of it and what a policy sees."""

    suite: str
    tasks: tuple[str, ...]
    demonstrations: int
    noise: float
    cameras: tuple[str, ...]
    state: str
    flags: tuple[str, ...] = ()


FIXTURES: Mapping[str, Fixture] = {
    "lang-reach": Fixture(
        suite="lang-reach",
        tasks=("reach-red", "reach-green", "reach-blue"),
        demonstrations=150,
        noise=0.3,
        cameras=("table",),
        state="hand",
    ),
    "metaworld": Fixture(
        suite="metaworld",
        tasks=("reach", "button-press-topdown", "drawer-close"),
        demonstrations=25,
        noise=0.5,
        cameras=("corner_table", "gripperPOV"),
        state="proprioception",
        flags=("--cameras", "corner_table", "gripperPOV", "--size", "64"),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Policies:
    """Measure the presets; the same command again goes on where it stopped."""

    work: Path = Path("runs/bench/policies")
    """directory of the datasets and of a run directory for each row and seed"""
    out: Path = results.RESULTS
    """directory of policies.json"""
    rows: tuple[str, ...] = ()
    """presets to measure; all when none is given. The others are written as far as they are known"""
    suites: tuple[str, ...] = tuple(FIXTURES)
    """lang-reach, metaworld"""
    seeds: int = 3
    """training seeds of each preset"""
    episodes: int = 34
    """evaluation episodes of each task and training seed"""
    controls: int = 17
    """episodes of each task in the controls of the first training seed"""
    seed: int = 1000
    """seed of the evaluated initial states"""
    workers: int = cores()
    """processes that simulate"""
    scale: float = 1.0
    """factor on demonstrations and training steps; anything but 1 is for trying out the benchmark"""

    def run(self) -> int:
        """Record, train and evaluate, and write the results after every row."""
        if self.scale != 1.0 and self.out.resolve() == results.RESULTS:
            raise KinemaError(f"--scale {self.scale:g} is for trying out: give another --out than {self.out}")
        for names, known, what in ((self.rows, ROWS, "row"), (self.suites, FIXTURES, "suite")):
            for name in names:
                if name not in known:
                    raise unknown(what, name, known)
        for suite in self.suites:
            self.kept(suite).record()
            for name in self.rows or ROWS:
                for seed in range(self.seeds):
                    self.kept(suite, seed).measure(name, seed, self.recipe(suite, name, seed))
                self.latency(suite, name)
                self.write()
        return 0

    def kept(self, suite: str, seed: int = 0) -> KeptRuns:
        """Return what is kept of `suite`; the controls are those of the first training `seed`."""
        fixture = FIXTURES[suite]
        return KeptRuns(
            work=self.work / suite,
            suite=fixture.suite,
            recording={
                "tasks": ",".join(fixture.tasks),
                "episodes": max(1, round(self.scale * fixture.demonstrations)),
                "noise": fixture.noise,
            },
            evaluation={"episodes": self.episodes, "controls": 0 if seed else self.controls, "seed": self.seed},
            flags=fixture.flags,
            workers=self.workers,
        )

    def recipe(self, suite: str, name: str, seed: int) -> Recipe:
        """Return the recipe of preset `name` on `suite`."""
        fixture = FIXTURES[suite]
        return ROWS[name].recipe(cameras=fixture.cameras, state=fixture.state, seed=seed, scale=self.scale)

    def arm(self, suite: str, name: str, seed: int, which: str = "policy") -> ArmResult | None:
        """Return one arm of an evaluation, None where it was not measured."""
        return self.kept(suite, seed).arm(name, seed, self.recipe(suite, name, seed), which)

    def latency(self, suite: str, name: str) -> list[float]:
        """Return the milliseconds of some chunks for one robot, measured once for each preset."""
        path = self.kept(suite).directory(name, 0) / "latency.json"
        if not path.exists():
            write_text(path, json.dumps(acted(path.parent)) + "\n")
        return json.loads(path.read_text("utf-8"))

    def write(self) -> None:
        """Write what is known so far."""
        figures = {
            name: {"published": size_of(name), **{suite: self.figures(suite, name) for suite in FIXTURES}}
            for name in ROWS
        }
        results.write(
            "policies",
            figures,
            command=COMMAND + given(self, "seeds", "episodes", "controls", "seed", "scale"),
            seeds=[*range(self.seeds), self.seed],
            notes=NOTES,
            directory=self.out,
            settings={name: {"steps": row.steps, "batch": row.batch} for name, row in ROWS.items()},
        )

    def figures(self, suite: str, name: str) -> dict[str, Any]:
        """Return success, controls and costs of one preset on one suite."""
        found = [self.arm(suite, name, seed) for seed in range(self.seeds)]
        arms = [arm for arm in found if arm is not None]
        if len(arms) < self.seeds:
            return results.unavailable("not measured yet")
        wrong = self.arm(suite, name, 0, "wrong-instruction")
        trained = [self.kept(suite).trained(name, seed) for seed in range(self.seeds)]
        return {
            "success": results.rate(together(arms)),
            "each seed": {str(seed): results.rate(arm.overall) for seed, arm in enumerate(arms)},
            "wrong instruction": results.rate(wrong.overall) if wrong else results.unavailable("not asked for"),
            "parameters": results.once(trained[0]["parameters"], "count"),
            "training": results.repeated([run["elapsed_s"] / 60 for run in trained], "min"),
            "chunk": results.repeated(self.latency(suite, name), "ms"),
        }


def size_of(name: str) -> dict[str, Any]:
    """Return the figure of how many parameters preset `name` has as published."""
    count = published(name)
    return results.unavailable("no published size") if count is None else results.once(count, "count")


def together(arms: list[ArmResult]) -> MeanRate:
    """Return the mean over tasks of the rates of all arms together."""
    tasks = {task: [arm.tasks[task] for arm in arms] for task in arms[0].tasks}
    return MeanRate(
        tuple(Rate(sum(rate.successes for rate in rates), sum(rate.n for rate in rates)) for rates in tasks.values())
    )


def acted(run: Path) -> list[float]:
    """Return how many milliseconds each of some chunks took for one robot."""
    from kinema.deploy.load import load_policy

    policy, rng = load_policy(run), np.random.default_rng(0)
    spec, steps = policy.spec.observation, policy.obs_horizon
    seen: dict[str, Any] = {
        camera.key: rng.integers(0, 256, (1, steps, camera.height, camera.width, 3), np.uint8)
        for camera in spec.cameras
    }
    for vector in spec.vectors:
        seen[vector.key] = rng.normal(size=(1, steps, len(vector.components))).astype(np.float32)
    if spec.instruction:
        seen["instruction"] = ["reach the red target"]
    torch.manual_seed(0)
    taken = []
    for _ in range(CALLS + 3):
        began = time.perf_counter()
        policy.act(seen)
        taken.append(1e3 * (time.perf_counter() - began))
    return taken[3:]


if __name__ == "__main__":
    sys.exit(results.main(Policies, sys.argv[1:], prog="policies"))
