"""Evaluate a trained policy in closed loop, with blind controls, and write a report."""

from __future__ import annotations

import json
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro
from typing_extensions import Annotated

from kinema.core.errors import KinemaError

if TYPE_CHECKING:
    from kinema.evaluation.evaluate import Arm
    from kinema.evaluation.results import Evaluation

VIDEO_SIZE = 224
VIDEO_HZ = 20.0


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Roll out the policy of RUN on a suite's tasks and write RUN/eval and RUN/report.html.

    Every initial state is a function of seed, task and episode number, so any two evaluations compare in pairs.
    Three controls run on the same initial states: held-out paraphrases, noise instead of the cameras, and the
    instruction of another task. Other options belong to the suite.
    """

    run_directory: Annotated[Path, tyro.conf.Positional]
    """run directory that `kinema train` wrote"""
    suite: str = "metaworld"
    """suite, see `kinema list suites`"""
    tasks: str = "mt10"
    """tasks or selections, separated by commas"""
    episodes: int = 25
    """episodes of each task"""
    controls: int = 10
    """episodes of each task in each control; 0 runs none"""
    seed: int = 1000
    """seed of the initial states; recordings start at 0, so these are held out"""
    envs: int = 4 * (os.cpu_count() or 1)
    """environments that run at once, each in a process"""
    device: str = "cpu"
    """cpu, cuda, cuda:1, mps"""
    overrides: Annotated[tuple[str, ...], tyro.conf.Suppress] = ()

    def run(self) -> int:
        """Evaluate, write the report and print the rates."""
        from kinema.cli.suites import make_suite, split_names

        if self.episodes < 1 or self.envs < 1 or not 0 <= self.controls:
            raise KinemaError(f"--episodes {self.episodes} and --envs {self.envs} must be at least 1, --controls {self.controls} at least 0")
        suite = make_suite(self.suite, self.overrides, f"kinema eval {self.run_directory}")
        tasks = suite.select(split_names(self.tasks, "--tasks"))
        evaluation = self.evaluate(suite, tasks)
        from kinema.cli.report import write_report

        page = write_report(self.run_directory)
        for arm in evaluation.arms:
            sys.stdout.write(f"{arm.name:<22} {arm.overall}\n")
        sys.stdout.write(f"report: {page}\n")
        return 0

    def evaluate(self, suite: Any, tasks: tuple[str, ...]) -> Evaluation:
        """Return the evaluation, after writing it and its videos to RUN/eval."""
        from kinema.cli.progress import progress
        from kinema.core.spec import check_compatible
        from kinema.deploy.load import load_policy
        from kinema.evaluation.evaluate import evaluate
        from kinema.evaluation.results import Manifest
        from kinema.policies.base import fingerprint
        from kinema.sim.vector import VectorSimulator

        policy = load_policy(self.run_directory, device=self.device)
        suite = suite.offering(policy.spec.observation)
        check_compatible(suite.spec, policy.spec, have_name=f"the suite {self.suite!r}", want_name=f"the policy of {self.run_directory}")
        arms = self._arms(suite, tasks, policy)
        manifest = Manifest.here(
            command=f"kinema {shlex.join(sys.argv[1:])}",
            seeds=(self.seed,),
            data_hash=read_run(self.run_directory).get("data", {}).get("content_hash"),
            policy_hash=fingerprint(policy.network),
        )
        simulator = VectorSimulator(suite, num_envs=self.envs, obs_horizon=policy.obs_horizon)
        wins = [0, 0]
        try:
            with progress("evaluate", sum(len(arm.trials) for arm in arms)) as tell:

                def heard(arm: str, result: Any, finished: int, total: int) -> None:
                    wins[0] += 1
                    wins[1] = result.success + (wins[1] if finished > 1 else 0)
                    tell(wins[0], f"{arm}: {wins[1]}/{finished} successes")

                evaluation = evaluate(arms, simulator, directory=self.run_directory / "eval", manifest=manifest, progress=heard)
        finally:
            simulator.close()
        self._film(suite, evaluation)
        return evaluation

    def _arms(self, suite: Any, tasks: tuple[str, ...], policy: Any) -> list[Arm]:
        from kinema.evaluation.baselines import NoiseCameras
        from kinema.evaluation.evaluate import Arm

        others = {task: _another(task, tasks, suite) for task in tasks}
        seen = {name: (task.instruction, *task.paraphrases) for name, task in suite.tasks.items()}
        unseen = {name: task.held_out for name, task in suite.tasks.items()}
        noise = NoiseCameras(policy, self.seed)
        few = min(self.controls, self.episodes)
        arms = [Arm(name="policy", description="instructions as in training", policy=policy, trials=self._trials(tasks, seen, self.episodes, "seen"))]
        if few:
            wrong = {task: seen[other][:1] for task, other in others.items()}
            arms += [
                Arm(name="held-out-words", description="paraphrases never trained on", policy=policy, trials=self._trials(tasks, unseen, few, "held-out")),
                Arm(name="blind-camera", description="every image replaced by noise", policy=noise, trials=self._trials(tasks, seen, few, "seen"), blind=True),
                Arm(name="wrong-instruction", description="told to do another task", policy=policy, trials=self._trials(tasks, wrong, few, "wrong"), blind=True),
            ]
        return arms

    def _trials(self, tasks: tuple[str, ...], texts: dict[str, tuple[str, ...]], episodes: int, variant: str) -> tuple[Any, ...]:
        from kinema.core.episode import Start
        from kinema.evaluation.rollout import Trial

        return tuple(
            Trial(
                start=Start(task=task, seed=self.seed, episode=episode),
                instruction=texts[task][episode % len(texts[task])],
                variant=variant,
            )
            for task in tasks
            for episode in range(episodes)
        )

    def _film(self, suite: Any, evaluation: Evaluation) -> None:
        from kinema.data.video import encode_mp4_bytes
        from kinema.evaluation.storage import action_key, load_actions
        from kinema.sim.replay import replay

        directory = self.run_directory / "eval" / "videos"
        directory.mkdir(exist_ok=True)
        arm = evaluation.arms[0]
        actions = load_actions(self.run_directory / "eval")
        environment = suite.make()
        every = max(1, round(suite.spec.rate_hz / VIDEO_HZ))
        try:
            for index in _chosen(arm.outcomes):
                start = arm.outcomes[index].trial.start
                path = directory / f"{arm.name}-{index:05d}.mp4"
                if not path.exists():
                    frames = replay(environment, start, actions[action_key(arm.name, index)], size=VIDEO_SIZE, every=every)
                    path.write_bytes(encode_mp4_bytes(frames, suite.spec.rate_hz / every))
        finally:
            environment.close()


def _another(task: str, tasks: tuple[str, ...], suite: Any) -> str:
    """Return the task whose instruction stands in for that of `task`: the next one evaluated, else the next of the suite."""
    pool = tasks if len(tasks) > 1 else tuple(suite.tasks)
    return pool[(pool.index(task) + 1) % len(pool)]


def _chosen(outcomes: Any, failures: int = 3, successes: int = 2) -> list[int]:
    """Return the trials to film: the first few failures and successes of every task."""
    left: dict[tuple[str, bool], int] = {}
    chosen = []
    for index, outcome in enumerate(outcomes):
        key = (outcome.trial.start.task, outcome.success)
        left.setdefault(key, successes if outcome.success else failures)
        if left[key] > 0:
            left[key] -= 1
            chosen.append(index)
    return chosen


def read_run(run: Path) -> dict[str, Any]:
    """Return the content of `run/run.json`, empty when training has not finished."""
    path = run / "run.json"
    try:
        return json.loads(path.read_text("utf-8")) if path.exists() else {}
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise KinemaError(f"cannot read {path}: {error}") from error
