"""Recordings, trainings and evaluations that are made once: the same benchmark goes on where it stopped.

Beside each lies what it was made of. What is of other options, or of another recipe, is refused and never reported.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinema.cli.kept import keep
from kinema.cli.main import main as kinema
from kinema.core.config import to_data
from kinema.core.errors import KinemaError
from kinema.evaluation.results import ArmResult, Evaluation
from kinema.recipes.base import Recipe

ASKED = "asked.json"
"""Beside what was recorded, trained or evaluated: with which options, of which recipe."""


@dataclass(frozen=True, kw_only=True)
class KeptRuns:
    """Policies trained on one recording of `suite` and evaluated alike, all under the directory `work`."""

    work: Path
    suite: str
    recording: Mapping[str, Any]
    """options of `kinema record`"""
    evaluation: Mapping[str, Any]
    """options of `kinema eval`"""
    flags: tuple[str, ...] = ()
    """further words of `kinema record`: what the suite shows, which `kinema eval` takes from the policy"""
    workers: int = 1

    @property
    def data(self) -> Path:
        """The directory of the dataset."""
        return self.work / "data"

    def record(self) -> None:
        """Record the demonstrations, unless they are there."""
        recorded = self.work / "recorded.json"
        if not recorded.exists():
            options = options_of({**self.recording, "workers": self.workers})
            run("record", self.suite, *options, "--out", self.data, *self.flags)
        keep(recorded, self.recording, begun=recorded.exists())

    def directory(self, name: str, seed: int) -> Path:
        """Return the run directory of row `name` trained with `seed`."""
        return self.work / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"

    def measure(self, name: str, seed: int, recipe: Recipe) -> None:
        """Train and evaluate one policy, as far as that was not done before."""
        from kinema.cli.train import train

        directory = self.directory(name, seed)
        if directory.exists() and not (directory / ASKED).exists():
            raise KinemaError(f"{directory} lacks {ASKED}, which says what it is of: remove it, or give another --work")
        keep(directory / ASKED, self.training(recipe), begun=directory.exists())
        if not (directory / "run.json").exists() and train(recipe, self.data, directory):
            raise KinemaError(f"the training in {directory} did not finish")
        done = self.evaluated(name, seed, recipe)
        keep(directory / "eval" / ASKED, self.evaluation, begun=(directory / "eval" / "eval.json").exists())
        if done is None:
            run("eval", directory, "--suite", self.suite, *options_of({**self.evaluation, "envs": self.workers}))

    def evaluated(self, name: str, seed: int, recipe: Recipe) -> Evaluation | None:
        """Return the whole evaluation of one policy, or None where what these options ask for was not measured."""
        from kinema.evaluation.storage import EVAL_FILE, load_evaluation

        directory = self.directory(name, seed)
        evaluated = directory / "eval"
        same = says(directory / ASKED, self.training(recipe)) and says(evaluated / ASKED, self.evaluation)
        if not same or not (directory / "run.json").exists() or not (evaluated / EVAL_FILE).exists():
            return None
        found = load_evaluation(evaluated)
        return found if found.complete else None

    def arm(self, name: str, seed: int, recipe: Recipe, which: str = "policy") -> ArmResult | None:
        """Return the arm `which` of that evaluation."""
        found = self.evaluated(name, seed, recipe)
        return None if found is None else next((arm for arm in found.arms if arm.name == which), None)

    def trained(self, name: str, seed: int) -> dict[str, Any]:
        """Return what run.json says of a finished training."""
        return json.loads((self.directory(name, seed) / "run.json").read_text("utf-8"))["result"]

    def training(self, recipe: Recipe) -> dict[str, Any]:
        """Return what lies beside a training: its recipe, and how its data was recorded."""
        return {**to_data(recipe), "recorded": dict(self.recording)}


def says(path: Path, asked: Mapping[str, Any]) -> bool:
    """Return whether `path` says that what lies beside it is what is `asked`."""
    return path.is_file() and json.loads(path.read_text("utf-8")) == json.loads(json.dumps(asked))


def options_of(asked: Mapping[str, Any]) -> list[str]:
    """Return `asked` as words of a command line."""
    return [word for name, value in asked.items() for word in (f"--{name}", str(value))]


def run(*words: Any) -> None:
    """Run a kinema command; one that fails is a KinemaError."""
    command = [str(word) for word in words]
    if kinema(command):
        raise KinemaError(f"this failed: kinema {shlex.join(command)}")
