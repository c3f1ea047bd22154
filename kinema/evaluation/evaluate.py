"""Runs the arms of an evaluation on the same starts, and keeps what is finished when it is interrupted."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kinema.core.errors import KinemaError, UnavailableError, unknown
from kinema.core.policy import Policy
from kinema.evaluation.results import ArmResult, Evaluation, Latency, Manifest, Outcome
from kinema.evaluation.rollout import Simulator, Trial, TrialResult, rollout
from kinema.evaluation.storage import EVAL_FILE, action_key, load_actions, load_evaluation, save

Progress = Callable[[str, TrialResult, int, int], None]
"""Called after each finished trial with (arm, result, trials of this arm finished, trials of this arm)."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One condition of an evaluation; `blind` marks a control that lacks what it needs and should fail."""

    name: str
    description: str
    policy: Policy
    trials: tuple[Trial, ...]
    blind: bool = False


def evaluate(
    arms: Sequence[Arm],
    simulator: Simulator,
    *,
    directory: Path,
    manifest: Manifest,
    main: str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Return the results of all arms, written to `directory` after each arm.

    `main` (the first arm when None) is the arm the others are compared with, in pairs: it tries every start once, and
    every other arm tries all or some of those starts once. A `directory` that already holds finished arms of this same
    evaluation (same arms, trials, seeds, hashes and versions) is continued with the next arm; any other is an error.
    """
    planned = tuple(arm.name for arm in arms)
    main = planned[0] if main is None and planned else main or ""
    check_arms(arms, main)
    evaluation = Evaluation(arms=(), planned=planned, main=main, manifest=manifest)
    evaluation, actions = _resume(evaluation, arms, directory)
    for arm in arms[len(evaluation.arms) :]:
        report = None if progress is None else _named(progress, arm.name)
        results = rollout(arm.policy, simulator, arm.trials, progress=report)
        finished = _arm_result(arm, results, manifest.cores)
        evaluation = replace(evaluation, arms=(*evaluation.arms, finished))
        actions |= {action_key(arm.name, index): result.actions for index, result in enumerate(results)}
        save(evaluation, actions, directory)
    return evaluation


def check_arms(arms: Sequence[Arm], main: str) -> None:
    """Raise KinemaError unless arms have distinct plain names and try no start twice, and only starts of `main`."""
    if not arms:
        raise KinemaError("no arms to evaluate")
    names = [arm.name for arm in arms]
    if main not in names:
        raise unknown("arm", main, names)
    offered = {trial.start for trial in arms[names.index(main)].trials}
    for arm in arms:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", arm.name):
            raise KinemaError(f"arm {arm.name!r}: a name is letters, digits, '-', '_' and '.'")
        if names.count(arm.name) > 1:
            raise KinemaError(f"two arms are called {arm.name!r}")
        starts = [trial.start for trial in arm.trials]
        if len(set(starts)) != len(starts) or not starts:
            twice = next((start for start in starts if starts.count(start) > 1), "no trials")
            raise KinemaError(f"arm {arm.name!r} must try every start exactly once: {twice}")
        unpaired = set(starts) - offered
        if unpaired:
            example = min(unpaired, key=str)
            raise KinemaError(
                f"arm {arm.name!r} has {len(unpaired)} starts that {main!r} does not have, such as {example}"
            )


def _named(progress: Progress, arm: str) -> Callable[[TrialResult, int, int], None]:
    return lambda result, finished, total: progress(arm, result, finished, total)


def _arm_result(arm: Arm, results: Sequence[TrialResult], cores: int) -> ArmResult:
    calls: dict[int, float] = {}
    for result in results:
        calls |= result.seconds_inference
    p50, p95, p99 = (float(p) for p in np.percentile([1e3 * seconds for seconds in calls.values()], (50, 95, 99)))
    return ArmResult(
        name=arm.name,
        description=arm.description,
        blind=arm.blind,
        outcomes=tuple(Outcome(trial=r.trial, success=r.success, steps=r.steps) for r in results),
        latency=Latency(p50_ms=p50, p95_ms=p95, p99_ms=p99, calls=len(calls), batch=results[0].batch, cores=cores),
    )


def _resume(fresh: Evaluation, arms: Sequence[Arm], directory: Path) -> tuple[Evaluation, dict[str, np.ndarray]]:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnavailableError(f"cannot create {directory}: {error.strerror or error}") from error
    if not (directory / EVAL_FILE).exists():
        return fresh, {}
    stored = load_evaluation(directory)
    problem = _contradiction(stored, fresh, arms)
    if problem:
        raise KinemaError(
            f"{directory} holds another evaluation ({problem}); choose a new directory\n"
            f"fix: rename or delete {directory}, then evaluate again"
        )
    kept = load_actions(directory)
    keys = [action_key(arm.name, index) for arm in stored.arms for index in range(len(arm.outcomes))]
    missing = [key for key in keys if key not in kept]
    if missing:
        raise KinemaError(
            f"{directory} lacks the executed actions of {len(missing)} finished trials, such as {missing[0]}"
        )
    return stored, {key: kept[key] for key in keys}


def _contradiction(stored: Evaluation, fresh: Evaluation, arms: Sequence[Arm]) -> str:
    """Name the first way in which `stored` is not a beginning of `fresh`; date, command and cores may differ."""
    pairs = [("arms", stored.planned, fresh.planned), ("main arm", stored.main, fresh.main)]
    for name in ("policy_hash", "data_hash", "seeds", "versions"):
        pairs.append((name, getattr(stored.manifest, name), getattr(fresh.manifest, name)))
    for name, have, want in pairs:
        if have != want:
            return f"{name}: {have!r}, now {want!r}"
    for done, arm in zip(stored.arms, arms, strict=False):
        if (done.name, done.blind, tuple(o.trial for o in done.outcomes)) != (arm.name, arm.blind, tuple(arm.trials)):
            return f"arm {arm.name!r} has other trials"
        if done.description != arm.description:
            return f"arm {arm.name!r}: {done.description!r}, now {arm.description!r}"
    return ""
