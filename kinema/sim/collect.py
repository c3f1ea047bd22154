"""Expert demonstrations: rollouts of a suite's scripted policies, with optional noise on what is executed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np

from kinema.core.episode import Episode, Start
from kinema.core.rng import generator
from kinema.sim.rendering import choose_backend
from kinema.sim.suites.base import SimEnvironment, Suite
from kinema.sim.workers import become_worker


@dataclass(frozen=True, kw_only=True)
class Collection:
    """What to record: tasks, episodes kept per task, seed and how the expert is disturbed.

    `noise` is the standard deviation, in action units, of Gaussian noise added to what is *executed* in bursts of
    `noise_steps`, which begin so often that they take up to `noisy_fraction` of the steps; the label stays the clean
    expert action, so that the data shows how to recover (Laskey et al. 2017, DART). Each episode goes on for
    `after_success` steps.
    """

    tasks: tuple[str, ...]
    episodes: int
    seed: int = 0
    noise: float = 0.0
    noisy_fraction: float = 0.3
    noise_steps: int = 8
    after_success: int = 5
    max_tries: int = 4


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One try at one task; the episode is kept only when it succeeded."""

    start: Start
    episode: Episode | None
    steps: int


def attempt(environment: SimEnvironment, suite: Suite, start: Start, collection: Collection) -> Attempt:
    """Return one expert rollout from `start`, a function of its arguments alone.

    Physics is cheap and rendering is not: the rollout runs blind first, and again with cameras only when it succeeded.
    """
    success, frames = _play(environment, suite, start, collection, watch=False)
    if not success:
        return Attempt(start=start, episode=None, steps=len(frames["action"]))
    _, frames = _play(environment, suite, start, collection, watch=True)
    task = suite.tasks[start.task]
    texts = (task.instruction, *task.paraphrases)
    episode = Episode(
        instruction=texts[start.episode % len(texts)],
        frames={key: np.stack(values) for key, values in frames.items()},
        success=True,
        origin={"task": start.task, "seed": start.seed, "episode": start.episode},
    )
    return Attempt(start=start, episode=episode, steps=len(episode))


def _play(
    environment: SimEnvironment, suite: Suite, start: Start, collection: Collection, *, watch: bool
) -> tuple[bool, dict[str, list[np.ndarray]]]:
    rng = generator("collect", collection.seed, start.task, start.episode)
    expert = suite.expert(start.task)
    low, high = np.array(suite.spec.action.low, np.float32), np.array(suite.spec.action.high, np.float32)
    environment.begin(start)
    frames: dict[str, list[np.ndarray]] = {"action": []}
    left, success, burst, offset = suite.max_steps, False, 0, np.zeros_like(low)
    while left > 0:
        left -= 1
        action = expert(environment.expert_state())
        for key, value in {**(environment.observe() if watch else {}), "action": action}.items():
            frames.setdefault(key, []).append(value)
        if burst == 0 and collection.noise > 0 and rng.random() < collection.noisy_fraction / collection.noise_steps:
            burst, offset = collection.noise_steps, rng.normal(0.0, collection.noise, low.shape).astype(np.float32)
        executed = np.clip(action + offset, low, high) if burst else action
        burst = max(0, burst - 1)
        if environment.step(executed) and not success:
            success, left = True, min(left, collection.after_success)
    return success, frames


class _Worker:
    """The environment of one worker process."""

    environment: SimEnvironment


def _prepare(suite: Suite) -> None:
    become_worker()
    _Worker.environment = suite.make()


def _attempt_in_worker(suite: Suite, start: Start, collection: Collection) -> Attempt:
    return attempt(_Worker.environment, suite, start, collection)


def collect(suite: Suite, collection: Collection, *, done: set[tuple[str, int]], workers: int) -> Iterator[Attempt]:
    """Yield attempts, failed ones too, in an order that does not depend on the number of workers.

    `done` holds (task, episode) pairs that were recorded before: they count and are not tried again. Each task's
    episodes are tried in order until `episodes` of them succeeded or `max_tries` times as many were tried.
    """
    choose_backend()
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare, initargs=(suite,)) as pool:
        for task in collection.tasks:
            yield from _collect_task(pool, suite, collection, task, done, workers)


def _collect_task(
    pool: ProcessPoolExecutor, suite: Suite, collection: Collection, task: str, done: set[tuple[str, int]], workers: int
) -> Iterator[Attempt]:
    kept = sum(1 for name, _ in done if name == task)
    last = max((episode for name, episode in done if name == task), default=-1)
    limit = collection.episodes * collection.max_tries
    upcoming = iter(range(last + 1, limit))
    waiting: list[Future[Any]] = []
    while kept < collection.episodes:
        # Never more in flight than still needed: a surplus success would make the result depend on timing.
        while len(waiting) < min(workers, collection.episodes - kept):
            episode = next(upcoming, None)
            if episode is None:
                break
            start = Start(task=task, seed=collection.seed, episode=episode)
            waiting.append(pool.submit(_attempt_in_worker, suite, start, collection))
        if not waiting:
            return
        result: Attempt = waiting.pop(0).result()
        kept += result.episode is not None
        yield result
