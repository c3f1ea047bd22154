"""MW-3: every action head on three easy Meta-World tasks, from the 39 numbers of the state alone.

    python benchmarks/heads_metaworld.py                          # everything
    python benchmarks/heads_metaworld.py --rows "flow, 10 steps"  # one row

The tasks are reach, button-press-topdown and drawer-close. All rows share demonstrations, encoder, trunk, number of
training steps and the evaluated initial states; only the head differs. Writes docs/results/heads_metaworld.json after
every row. The same command again goes on where it stopped, even in the middle of a training; what was made with other
options, or of another recipe, is refused and never reported.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import results
from heads_rows import METAWORLD, given
from kept_runs import KeptRuns

from kinema.core.errors import unknown
from kinema.core.manifest import cores
from kinema.evaluation.comparison import paired
from kinema.evaluation.intervals import MeanRate, Rate
from kinema.evaluation.multiple import holm
from kinema.evaluation.results import ArmResult
from kinema.heads.base import HeadConfig
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.trunks.transformer import Transformer
from kinema.policies.base import PolicyConfig
from kinema.recipes.base import DataConfig, Recipe
from kinema.train.config import TrainConfig
from kinema.train.optim import OptimConfig
from kinema.transforms.normalise import Normalise

COMMAND = "python benchmarks/heads_metaworld.py"
TASKS = ("reach", "button-press-topdown", "drawer-close")
REFERENCE = "regression, MSE"
STATE = "vector.full_state"
NOTES = (
    "Rates are means of the three tasks' rates, all training seeds together, with 95 % Wilson intervals.",
    "Initial states are a function of seed, task and episode number; every row and every training seed plays the same.",
    f"p-values are exact McNemar against {REFERENCE!r}, on episodes paired within each training seed, after Holm.",
    "The trunk is a transformer, since the autoregressive head and the CVAE read its tokens alone; there is one token "
    "of the state, and one more of the CVAE's latent.",
    "Parameters are those of the whole policy. Heads are larger than those of the same name on the Fork.",
    "Training seconds are wall time on the named machine, which did other work at the same time.",
)


def mw3(head: HeadConfig, *, steps: int, seed: int) -> Recipe:
    """Return the recipe of MW-3 with `head`: the state in, chunks of 16 actions out, of which 8 are executed."""
    return Recipe(
        policy=PolicyConfig(
            encoders={"state": Proprioception(vector="full_state", hidden=128)},
            trunk=Transformer(layers=2, heads=4, hidden=512, dropout=0.0),
            head=head,
            transforms=(Normalise(modes={STATE: "mean_std", "action": "min_max"}),),
            width=128,
            pred_horizon=16,
            exec_horizon=8,
        ),
        data=DataConfig(),
        train=TrainConfig(
            steps=steps,
            batch_size=128,
            seed=seed,
            optim=OptimConfig(learning_rate=1e-3, weight_decay=1e-4, warmup_steps=50),
            ema_decay=0.995,
            evaluate_every=0,
        ),
    )


@dataclass(frozen=True, kw_only=True)
class HeadsMetaworld:
    """Measure the heads on MW-3; the same command again goes on where it stopped."""

    work: Path = Path("runs/bench/heads_metaworld")
    """directory of the dataset and of a run directory for each row and seed"""
    out: Path = results.RESULTS
    """directory of heads_metaworld.json"""
    rows: tuple[str, ...] = ()
    """rows to measure; all when none is given. The others are written as far as they are known"""
    demos: int = 25
    """recorded demonstrations of each task"""
    noise: float = 0.5
    """standard deviation, in action units, of the noise on what the expert executes"""
    steps: int = 1500
    """training steps of each policy"""
    seeds: int = 2
    """training seeds of each row"""
    episodes: int = 20
    """evaluation episodes of each task and training seed"""
    seed: int = 1000
    """seed of the evaluated initial states"""
    workers: int = cores()
    """processes that simulate"""

    def run(self) -> int:
        """Record, train and evaluate, and write the results after every row."""
        for name in self.rows:
            if name not in METAWORLD:
                raise unknown("row", name, METAWORLD)
        kept = self.kept()
        kept.record()
        for name in self.rows or METAWORLD:
            for seed in range(self.seeds):
                kept.measure(name, seed, self.recipe(name, seed))
            self._write()
        return 0

    def kept(self) -> KeptRuns:
        """Return what is kept under `work`."""
        return KeptRuns(
            work=self.work,
            suite="metaworld",
            recording={"tasks": ",".join(TASKS), "episodes": self.demos, "noise": self.noise},
            evaluation={"episodes": self.episodes, "controls": 0, "seed": self.seed},
            flags=("--full-state", "--cameras"),
            workers=self.workers,
        )

    def recipe(self, name: str, seed: int) -> Recipe:
        """Return the run of row `name` with one training seed."""
        return mw3(METAWORLD[name], steps=self.steps, seed=seed)

    def _write(self) -> None:
        """Write what is known so far."""
        kept, seeds = self.kept(), range(self.seeds)
        found = {name: [kept.arm(name, seed, self.recipe(name, seed)) for seed in seeds] for name in METAWORLD}
        whole = {name: [arm for arm in arms if arm] for name, arms in found.items() if all(arms)}
        missing = results.unavailable("not measured yet")
        figures = {name: self._figures(name, whole) if name in whole else missing for name in METAWORLD}
        adjusted = _p_values(whole)
        for name, (p_value, difference, n) in adjusted.items():
            figures[name]["difference"] = results.once(difference, "count", n=n)
            figures[name]["p"] = results.once(p_value, "p-value", n=n)
        results.write(
            "heads_metaworld",
            figures,
            command=COMMAND + given(self, "demos", "noise", "steps", "seeds", "episodes", "seed"),
            seeds=[*range(self.seeds), self.seed],
            notes=NOTES,
            directory=self.out,
            tasks=list(TASKS),
            demonstrations=self.demos,
            steps=self.steps,
        )

    def _figures(self, name: str, whole: Mapping[str, Sequence[ArmResult]]) -> dict[str, Any]:
        """Return success rates, parameters and training time of one row."""
        tasks = {task: _together([arm.tasks[task] for arm in whole[name]]) for task in TASKS}
        runs = [self.kept().trained(name, seed) for seed in range(self.seeds)]
        return {
            "head": type(METAWORLD[name]).__name__,
            "success": results.rate(MeanRate(tuple(tasks.values()))),
            "tasks": {task: results.rate(rate) for task, rate in tasks.items()},
            "parameters": results.once(runs[0]["parameters"], "count"),
            "training": results.repeated([run["elapsed_s"] for run in runs], "s"),
        }


def _together(rates: Sequence[Rate]) -> Rate:
    return Rate(sum(rate.successes for rate in rates), sum(rate.n for rate in rates))


def _p_values(whole: Mapping[str, Sequence[ArmResult]]) -> dict[str, tuple[float, float, int]]:
    """Return the adjusted p-value, difference and number of pairs of each row against the reference."""
    if REFERENCE not in whole:
        return {}
    wins: dict[str, list[bool]] = defaultdict(list)
    for name, arms in whole.items():
        for arm in arms:
            wins[name] += [outcome.success for outcome in arm.outcomes]
    compared = {name: paired(wins[name], wins[REFERENCE]) for name in whole if name != REFERENCE}
    adjusted = holm([table.p_value for table in compared.values()])
    return {name: (p, compared[name].difference, compared[name].n) for name, p in zip(compared, adjusted, strict=True)}


if __name__ == "__main__":
    sys.exit(results.main(HeadsMetaworld, sys.argv[1:], prog="heads_metaworld"))
