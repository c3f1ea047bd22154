"""MW-3: every action head on three easy Meta-World tasks, from the 39 numbers of the state alone.

    python benchmarks/heads_metaworld.py                          # everything
    python benchmarks/heads_metaworld.py --rows "flow, 10 steps"  # one row

The tasks are reach, button-press-topdown and drawer-close. All rows share demonstrations, encoder, trunk, number of
training steps and the evaluated initial states; only the head differs. Writes docs/results/heads_metaworld.json after
every row. The same command again goes on where it stopped, even in the middle of a training; what was made with other
options, or of another recipe, is refused and never reported.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import results
from heads_rows import METAWORLD, given

from kinema.cli.kept import keep
from kinema.cli.main import main as kinema
from kinema.core.config import to_data
from kinema.core.errors import KinemaError, unknown
from kinema.core.manifest import cores
from kinema.evaluation.compare import holm, paired
from kinema.evaluation.intervals import MeanRate, Rate
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
ASKED = "asked.json"
"""Beside what was recorded, trained or evaluated: with which options, of which recipe."""
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
        data, recorded = self.work / "data", self.work / "recorded.json"
        if not recorded.exists():
            options = _options({**self._recording(), "workers": self.workers})
            _run("record", "metaworld", *options, "--out", data, "--full-state", "--cameras")
        keep(recorded, self._recording(), begun=recorded.exists())
        for name in self.rows or METAWORLD:
            for seed in range(self.seeds):
                self._measure(name, data, seed)
            self._write()
        return 0

    def _directory(self, name: str, seed: int) -> Path:
        return self.work / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"

    def _recording(self) -> dict[str, Any]:
        return {"tasks": ",".join(TASKS), "episodes": self.demos, "noise": self.noise}

    def _training(self, name: str, seed: int) -> dict[str, Any]:
        recipe = mw3(METAWORLD[name], steps=self.steps, seed=seed)
        return {**to_data(recipe), "recorded": self._recording()}

    def _evaluation(self) -> dict[str, Any]:
        return {"episodes": self.episodes, "controls": 0, "seed": self.seed}

    def _measure(self, name: str, data: Path, seed: int) -> None:
        """Train and evaluate one policy, as far as that was not done before; what is of other options is refused."""
        from kinema.cli.train import train
        from kinema.evaluation.storage import EVAL_FILE

        run = self._directory(name, seed)
        if run.exists() and not (run / ASKED).exists():
            raise KinemaError(f"{run} lacks {ASKED}, which says what it is of: remove it, or give another --work")
        keep(run / ASKED, self._training(name, seed), begun=run.exists())
        if not (run / "run.json").exists() and train(mw3(METAWORLD[name], steps=self.steps, seed=seed), data, run):
            raise KinemaError(f"the training in {run} did not finish")
        keep(run / "eval" / ASKED, self._evaluation(), begun=(run / "eval" / EVAL_FILE).exists())
        if self._arm(name, seed) is None:
            _run("eval", run, *_options({**self._evaluation(), "envs": self.workers}))

    def _write(self) -> None:
        """Write what is known so far."""
        found = {name: [self._arm(name, seed) for seed in range(self.seeds)] for name in METAWORLD}
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

    def _arm(self, name: str, seed: int) -> ArmResult | None:
        """Return the evaluation of one policy, or None where what these options ask for was not measured."""
        from kinema.evaluation.storage import EVAL_FILE, load_evaluation

        run, directory = self._directory(name, seed), self._directory(name, seed) / "eval"
        same = _says(run / ASKED, self._training(name, seed)) and _says(directory / ASKED, self._evaluation())
        if not same or not (run / "run.json").exists() or not (directory / EVAL_FILE).exists():
            return None
        evaluation = load_evaluation(directory)
        return evaluation.arms[0] if evaluation.complete else None

    def _figures(self, name: str, whole: Mapping[str, Sequence[ArmResult]]) -> dict[str, Any]:
        """Return success rates, parameters and training time of one row."""
        tasks = {task: _together([arm.tasks[task] for arm in whole[name]]) for task in TASKS}
        runs = [json.loads((self._directory(name, seed) / "run.json").read_text("utf-8")) for seed in range(self.seeds)]
        return {
            "head": type(METAWORLD[name]).__name__,
            "success": results.rate(MeanRate(tuple(tasks.values()))),
            "tasks": {task: results.rate(rate) for task, rate in tasks.items()},
            "parameters": results.once(runs[0]["result"]["parameters"], "count"),
            "training": results.repeated([run["result"]["elapsed_s"] for run in runs], "s"),
        }


def _says(path: Path, asked: Mapping[str, Any]) -> bool:
    return path.is_file() and json.loads(path.read_text("utf-8")) == asked


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


def _options(asked: Mapping[str, Any]) -> list[str]:
    return [word for name, value in asked.items() for word in (f"--{name}", str(value))]


def _run(*words: Any) -> None:
    command = [str(word) for word in words]
    if kinema(command):
        raise KinemaError(f"this failed: kinema {shlex.join(command)}")


if __name__ == "__main__":
    sys.exit(results.main(HeadsMetaworld, sys.argv[1:], prog="heads_metaworld"))
