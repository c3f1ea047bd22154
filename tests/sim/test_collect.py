"""Demonstrations are a function of suite, start and collection, however they are interrupted or disturbed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kinema.core.episode import Episode, Start
from kinema.sim.collect import Attempt, Collection, attempt, collect
from kinema.sim.replay import replay
from kinema.sim.suites.base import SimEnvironment
from kinema.sim.suites.metaworld import MetaWorld, MetaWorldEnvironment

TASK = "drawer-open"
START = Start(task=TASK, seed=0, episode=0)


class Recorder(SimEnvironment):
    """The real environment, with everything that is executed written down."""

    def __init__(self, environment: SimEnvironment) -> None:
        self.inner = environment
        self.states: list[np.ndarray] = []
        self.executed: list[np.ndarray] = []
        self.looks = 0

    def begin(self, start: Start) -> None:
        self.states, self.executed, self.looks = [], [], 0
        self.inner.begin(start)

    def step(self, action: np.ndarray) -> bool:
        self.executed.append(action.copy())
        return self.inner.step(action)

    def observe(self) -> dict[str, np.ndarray]:
        self.looks += 1
        return self.inner.observe()

    def picture(self, size: int) -> np.ndarray:
        return self.inner.picture(size)

    def expert_state(self) -> np.ndarray:
        self.states.append(self.inner.expert_state().copy())
        return self.states[-1]

    def close(self) -> None:
        self.inner.close()


def kept(tried: Attempt) -> Episode:
    assert tried.episode is not None
    return tried.episode


def same(first: Episode, second: Episode) -> bool:
    return (
        first.instruction == second.instruction
        and first.origin == second.origin
        and set(first.frames) == set(second.frames)
        and all(np.array_equal(first.frames[key], second.frames[key]) for key in first.frames)
    )


def test_an_attempt_holds_what_was_seen_and_done(suite: MetaWorld, environment: MetaWorldEnvironment) -> None:
    recorder = Recorder(environment)
    tried = attempt(recorder, suite, START, Collection(tasks=(TASK,), episodes=1, after_success=3))
    episode = kept(tried)
    assert set(episode.frames) == {*suite.spec.observation.keys, "action"} - {"instruction"}
    assert {len(rows) for rows in episode.frames.values()} == {tried.steps} == {len(episode)} == {recorder.looks}
    assert episode.origin == {"task": TASK, "seed": 0, "episode": 0} and episode.success
    assert np.array_equal(episode.frames["action"], np.stack(recorder.executed)), "without noise the label is executed"
    hands = np.stack([state[:4] for state in recorder.states]).astype(np.float32)
    assert np.array_equal(episode.frames["vector.proprioception"], hands), "row t is what was seen at step t"
    environment.begin(START)
    successes = [environment.step(action) for action in episode.frames["action"]]
    assert successes.index(True) == tried.steps - 1 - 3, "the episode goes on for three steps after its success"


def test_noise_disturbs_what_is_executed_and_never_the_label(suite: MetaWorld, blind: MetaWorldEnvironment) -> None:
    clean = kept(attempt(blind, suite, START, Collection(tasks=(TASK,), episodes=1)))
    noisy_config = Collection(tasks=(TASK,), episodes=1, noise=0.5, noisy_fraction=0.4, noise_steps=4)
    recorder = Recorder(blind)
    episode = kept(attempt(recorder, suite, START, noisy_config))
    expert = suite.expert(TASK)
    labels, executed = episode.frames["action"], np.stack(recorder.executed)
    assert np.array_equal(labels, np.stack([expert(state) for state in recorder.states])), "labels are the expert's"
    disturbed = (labels != executed).any(1)
    assert 0.1 < disturbed.mean() < 0.8 and np.abs(executed).max() <= 1
    first = int(np.argmax(disturbed))
    assert disturbed[first : first + 4].all(), "noise comes in bursts"
    assert np.array_equal(labels[: first + 1], clean.frames["action"][: first + 1])
    assert not np.array_equal(labels[first + 1 : first + 9], clean.frames["action"][first + 1 : first + 9])
    assert same(episode, kept(attempt(blind, suite, START, noisy_config))), "the same noise every time"
    other = kept(attempt(blind, suite, replace(START, episode=1), noisy_config))
    assert not np.array_equal(other.frames["action"][:20], labels[:20])


def test_paraphrases_take_turns(suite: MetaWorld, blind: MetaWorldEnvironment) -> None:
    task = suite.tasks[TASK]
    texts = (task.instruction, *task.paraphrases)
    collection = Collection(tasks=(TASK,), episodes=1)
    for episode in (0, 1, len(texts)):
        tried = attempt(blind, suite, replace(START, episode=episode), collection)
        assert kept(tried).instruction == texts[episode % len(texts)] not in task.held_out


def test_a_resumed_collection_gives_the_same_episodes(suite: MetaWorld, environment: MetaWorldEnvironment) -> None:
    collection = Collection(tasks=("window-open", TASK), episodes=2, noise=0.3)
    done = {("window-open", 0)}
    whole = list(collect(suite, collection, done=done, workers=2))
    assert [(t.start.task, t.start.episode) for t in whole if t.episode] == [
        ("window-open", 1),
        (TASK, 0),
        (TASK, 1),
    ]
    done |= {("window-open", 1), (TASK, 0)}
    resumed = list(collect(suite, collection, done=done, workers=1))
    assert len(resumed) == 1 and same(kept(resumed[0]), kept(whole[-1]))
    here = attempt(environment, suite, whole[0].start, collection)
    assert same(kept(here), kept(whole[0])), "a worker process does as this one"


def test_failed_attempts_are_reported_and_bounded(suite: MetaWorld) -> None:
    hopeless = replace(suite, max_steps=5)
    collection = Collection(tasks=(TASK,), episodes=2, max_tries=2)
    tried = list(collect(hopeless, collection, done=set(), workers=1))
    assert [(t.start.episode, t.episode, t.steps) for t in tried] == [(index, None, 5) for index in range(4)]


def test_failures_are_not_rendered(suite: MetaWorld, blind: MetaWorldEnvironment) -> None:
    recorder = Recorder(blind)
    tried = attempt(recorder, replace(suite, max_steps=5), START, Collection(tasks=(TASK,), episodes=1))
    assert tried.episode is None and recorder.looks == 0


def test_a_replay_ends_where_the_rollout_ended(suite: MetaWorld, environment: MetaWorldEnvironment) -> None:
    collection = Collection(tasks=(TASK,), episodes=1)
    actions = kept(attempt(environment, suite, START, collection)).frames["action"]
    end, seen = environment.expert_state().copy(), environment.observe()
    environment.begin(Start(task="window-open", seed=4, episode=4))
    pictures, success = replay(environment, START, actions, size=32, every=10)
    assert success, "the expert ends in success"
    assert pictures.shape == (1 + -(-len(actions) // 10), 32, 32, 3) and pictures.dtype == np.uint8
    assert np.array_equal(environment.expert_state(), end)
    assert all(np.array_equal(environment.observe()[key], value) for key, value in seen.items())
    assert np.array_equal(pictures[-1], environment.picture(32))
    environment.begin(START)
    assert np.array_equal(pictures[0], environment.picture(32)) and not np.array_equal(pictures[0], pictures[-1])


@pytest.mark.parametrize("after", [0, 5])
def test_the_time_limit_holds_after_a_late_success(suite: MetaWorld, blind: MetaWorldEnvironment, after: int) -> None:
    collection = Collection(tasks=(TASK,), episodes=1, after_success=after)
    steps = attempt(blind, suite, START, replace(collection, after_success=0)).steps
    tight = replace(suite, max_steps=steps + 2)
    assert attempt(blind, tight, START, collection).steps == steps + min(after, 2)
