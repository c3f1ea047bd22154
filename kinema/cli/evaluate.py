"""Evaluate a trained policy in closed loop, with blind controls, and write a report."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from kinema.cli.devices import check_device
from kinema.cli.suites import another, fitting, trusted_packages, wordings
from kinema.cli.trained import read_run, refuse_trained, trained_tasks
from kinema.core.errors import KinemaError
from kinema.core.manifest import cores

if TYPE_CHECKING:
    from kinema.evaluation.evaluate import Arm
    from kinema.evaluation.results import Evaluation
    from kinema.evaluation.rollout import Trial
    from kinema.evaluation.trials import Texts


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Roll out the policy of RUN on a suite's tasks and write RUN/eval and RUN/report.html.

    Every initial state is a function of seed, task and episode number, so any two evaluations compare in pairs.
    Three controls run on the same initial states: held-out paraphrases, noise instead of the cameras, and the
    instruction of another task. With `--chunking` the policy also runs them with its chunks executed by other rules,
    each compared with it in pairs. Other options belong to the suite.
    """

    run_directory: Annotated[Path, tyro.conf.Positional]
    """run directory that `kinema train` wrote"""
    suite: str = "metaworld"
    """suite, see `kinema list suites`"""
    tasks: str = ""
    """tasks or selections, separated by commas; those that were trained when left out"""
    episodes: int = 25
    """episodes of each task"""
    controls: int = 10
    """episodes of each task in each control; 0 runs none"""
    chunking: tuple[str, ...] = ()
    """rules to execute chunks by as well: "ensemble" "receding-horizon --exec-horizon 4"; see `kinema list chunking`"""
    seed: int = 1000
    """seed of the initial states; recordings start at 0, so these are held out"""
    envs: int = 4 * cores()
    """environments that run at once, each in a process"""
    device: str = "cpu"
    """cpu, cuda, cuda:1, mps"""
    trust: str = ""
    """packages outside kinema, separated by commas, whose parts the policy may hold"""
    overrides: Annotated[tuple[str, ...], tyro.conf.Suppress] = ()

    def run(self) -> int:
        """Evaluate, write the report and print the rates."""
        from kinema.cli.suites import make_suite, split_names

        if self.episodes < 1 or self.envs < 1 or not 0 <= self.controls:
            raise KinemaError(
                f"--episodes {self.episodes} and --envs {self.envs} must be at least 1, "
                f"--controls {self.controls} at least 0"
            )
        check_device(self.device)
        suite = make_suite(self.suite, self.overrides, f"kinema eval {self.run_directory}")
        tasks = suite.select(split_names(self.tasks, "--tasks") if self.tasks else trained_tasks(self.run_directory))
        evaluation = self.evaluate(suite, tasks)
        from kinema.cli.report import write_report

        page = write_report(self.run_directory)
        for arm in evaluation.arms:
            sys.stdout.write(f"{arm.name:<22} {arm.overall}\n")
        sys.stdout.write(f"report: {page}\n")
        return 0

    def evaluate(self, suite: Any, tasks: tuple[str, ...]) -> Evaluation:
        """Return the evaluation, after writing it and its videos to RUN/eval."""
        from kinema.cli.films import film
        from kinema.deploy.load import load_policy
        from kinema.evaluation.results import Manifest
        from kinema.policies.network import fingerprint

        policy = load_policy(self.run_directory, device=self.device, trusted=trusted_packages(self.trust))
        suite = fitting(suite, policy.spec, suite_name=self.suite, run=self.run_directory)
        arms = self._arms(suite, tasks, policy)
        manifest = Manifest.here(
            command=f"kinema {shlex.join(sys.argv[1:])}",
            seeds=(self.seed,),
            data_hash=read_run(self.run_directory).get("data", {}).get("content_hash"),
            policy_hash=fingerprint(policy.config, policy.spec, policy.network),
        )
        evaluation = self._rolled_out(suite, arms, manifest)
        film(self.run_directory / "eval", suite, evaluation)
        return evaluation

    def _rolled_out(self, suite: Any, arms: list[Arm], manifest: Any) -> Evaluation:
        """Return the evaluation of `arms`; those finished before are read from RUN/eval and start no simulator."""
        from functools import partial

        from kinema.cli.interrupts import Workers
        from kinema.cli.kept import keep
        from kinema.cli.progress import progress
        from kinema.core.config import to_data
        from kinema.evaluation.evaluate import evaluate
        from kinema.evaluation.storage import EVAL_FILE
        from kinema.sim.vector import VectorSimulator
        from kinema.train.signals import stop_on_signal

        directory = self.run_directory / "eval"
        keep(directory / "suite.json", to_data(suite), begun=(directory / EVAL_FILE).exists())
        horizon = max(arm.policy.obs_horizon for arm in arms)
        envs = min(self.envs, max(len(arm.trials) for arm in arms))
        make = partial(VectorSimulator, suite, num_envs=envs, obs_horizon=horizon)
        wins = [0, 0]
        with progress("evaluate", sum(len(arm.trials) for arm in arms)) as tell, stop_on_signal() as stop:

            def heard(arm: str, result: Any, finished: int, total: int) -> None:
                wins[0] += 1
                wins[1] = result.success + (wins[1] if finished > 1 else 0)
                tell(wins[0], f"{arm}: {wins[1]}/{finished} successes")

            simulator = Workers(make, num_envs=envs, stop=stop)
            try:
                return evaluate(arms, simulator, directory=directory, manifest=manifest, progress=heard)
            finally:
                simulator.close()

    def _arms(self, suite: Any, tasks: tuple[str, ...], policy: Any) -> list[Arm]:
        from kinema.cli.chunking import arms as chunked
        from kinema.evaluation.baselines import NoiseCameras
        from kinema.evaluation.evaluate import Arm

        others = {task: another(task, tasks, suite) for task in tasks}
        seen = wordings(suite)
        unseen = {name: task.held_out for name, task in suite.tasks.items()}
        few = min(self.controls, self.episodes)
        wrong = {task: seen[other][:1] for task, other in others.items()}

        def arm(name: str, what: str, texts: Texts, variant: str, *, by: Any = policy, blind: bool = False) -> Arm:
            episodes = self.episodes if name == "policy" else few
            trials = self._trials(tasks, texts, episodes, variant)
            return Arm(name=name, description=what, policy=by, trials=trials, blind=blind)

        arms = [arm("policy", "instructions as in training", seen, "seen")]
        # A control takes something away, so it needs a policy that has it.
        if few and policy.spec.observation.instruction:
            arms.append(arm("held-out-words", "paraphrases never trained on", unseen, "held-out"))
        if few and policy.spec.observation.cameras:
            noise = NoiseCameras(policy, self.seed)
            arms.append(arm("blind-camera", "every image replaced by noise", seen, "seen", by=noise, blind=True))
        if few and policy.spec.observation.instruction:
            arms.append(arm("wrong-instruction", "told to do another task", wrong, "wrong", blind=True))
        arms += chunked(self.chunking, arms[0])
        refuse_trained(self.run_directory, [trial.start for trial in arms[0].trials])
        return arms

    def _trials(self, tasks: tuple[str, ...], texts: Texts, episodes: int, variant: str) -> tuple[Trial, ...]:
        from kinema.core.episode import Start
        from kinema.evaluation.trials import trials

        starts = [Start(task=task, seed=self.seed, episode=episode) for task in tasks for episode in range(episodes)]
        return trials(starts, texts, variant)
