"""MimicGen: how often generated demonstrations succeed, and what a policy gains from many of them.

    python benchmarks/mimicgen.py            # a few minutes of generation, then three pairs of trainings: an hour

Records demonstrations of one task, generates more from them (`kinema data generate`), trains the same small policy on
the state from either and evaluates both on the same initial states, once per training seed. Writes
docs/results/mimicgen.json. The same command again goes on where it stopped.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import results

from kinema.cli.main import main as kinema
from kinema.core.errors import KinemaError
from kinema.core.manifest import cores
from kinema.data.lerobot.reader import open_dataset
from kinema.evaluation.comparison import paired
from kinema.evaluation.intervals import Rate
from kinema.heads.flow import Flow
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.trunks.fusion import Fusion
from kinema.policies.base import PolicyConfig
from kinema.recipes.base import DataConfig, Recipe
from kinema.train.config import TrainConfig
from kinema.train.optim import OptimConfig
from kinema.transforms.normalise import Normalise

STATE = "vector.full_state"


def recipe(steps: int, seed: int) -> Recipe:
    """Return a policy of the full state alone: what it lacks is demonstrations, not sight."""
    return Recipe(
        policy=PolicyConfig(
            encoders={"state": Proprioception(vector="full_state", hidden=256)},
            trunk=Fusion(),
            head=Flow(),
            transforms=(Normalise(modes={STATE: "mean_std", "action": "mean_std"}),),
            width=256,
            pred_horizon=16,
            exec_horizon=8,
        ),
        data=DataConfig(),
        train=TrainConfig(
            steps=steps,
            batch_size=128,
            seed=seed,
            optim=OptimConfig(learning_rate=5e-4, weight_decay=1e-4, warmup_steps=100),
            ema_decay=0.999,
            evaluate_every=0,
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Measure generation and what it is worth; the same command again goes on where it stopped."""

    work: Path = Path("runs/bench/mimicgen")
    """directory of the datasets and runs"""
    out: Path = results.RESULTS
    """directory of mimicgen.json"""
    task: str = "pick-place"
    """the task"""
    demos: int = 5
    """recorded demonstrations"""
    generated: int = 200
    """generated demonstrations"""
    steps: int = 4000
    """training steps of each policy"""
    seeds: int = 3
    """training seeds"""
    episodes: int = 50
    """evaluation episodes of each policy"""
    seed: int = 1000
    """seed of the evaluated initial states"""

    def run(self) -> int:
        """Record, generate, train and evaluate, and write the results."""
        few, many = self.work / "few", self.work / "many"
        task = ("--tasks", self.task, "--episodes")
        _run("record", "metaworld", *task, self.demos, "--out", few, "--full-state", "--cameras")
        _run("data", "generate", few, "--out", many, "--episodes", self.generated)
        wins: dict[str, list[list[bool]]] = {"few": [], "many": []}
        for seed in range(self.seeds):
            for name, data in (("few", few), ("many", many)):
                wins[name].append(self._measure(data, self.work / f"{name}-{seed}", seed))
        # Episodes are tried in order and none beyond the last success, so its number counts the tries.
        tried = 1 + max(int(episode.origin["episode"]) for episode in open_dataset(many).episodes)
        self._write(tried, wins)
        return 0

    def _measure(self, data: Path, run: Path, seed: int) -> list[bool]:
        """Return the successes of one policy, episode by episode, training it unless that was done."""
        from kinema.cli.train import train
        from kinema.evaluation.storage import EVAL_FILE, load_evaluation

        if not (run / "run.json").exists() and train(recipe(self.steps, seed), data, run):
            raise KinemaError(f"the training in {run} did not finish")
        if not (run / "eval" / EVAL_FILE).exists():
            _run("eval", run, "--episodes", self.episodes, "--controls", 0, "--seed", self.seed, "--envs", cores())
        return [outcome.success for outcome in load_evaluation(run / "eval").arms[0].outcomes]

    def _write(self, tried: int, wins: dict[str, list[list[bool]]]) -> None:
        pairs = [paired(many, few) for few, many in zip(wins["few"], wins["many"], strict=True)]
        figures: dict[str, Any] = {
            "generation": results.rate(Rate(successes=self.generated, n=tried)),
            "gain": results.repeated([pair.difference for pair in pairs], "difference of success rates"),
            "seeds": {
                str(seed): {
                    **{name: results.rate(Rate(successes=sum(wins[name][seed]), n=pair.n)) for name in wins},
                    "p": results.once(pair.p_value, "p-value", n=pair.n),
                }
                for seed, pair in enumerate(pairs)
            },
        }
        notes = (
            "Generated demonstrations are kept only when they succeed: `generation` counts every try.",
            "Both policies of a seed play the same initial states; p-values are exact McNemar, one seed each.",
        )
        results.write(
            "mimicgen",
            figures,
            command="python benchmarks/mimicgen.py",
            seeds=[0, 1, self.seed],
            notes=notes,
            directory=self.out,
            task=self.task,
            demonstrations=self.demos,
            generated=self.generated,
        )


def _run(*words: Any) -> None:
    command = [str(word) for word in words]
    if kinema(command):
        raise KinemaError(f"this failed: kinema {shlex.join(command)}")


if __name__ == "__main__":
    sys.exit(results.main(Benchmark, sys.argv[1:], prog="mimicgen"))
