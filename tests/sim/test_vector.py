"""Chunks are single steps, windows hold the newest frames, and slots do not know each other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from kinema.core.episode import Start
from kinema.core.errors import KinemaError
from kinema.sim.collect import Collection, attempt
from kinema.sim.suites.metaworld import MetaWorld, MetaWorldEnvironment
from kinema.sim.vector import ChunkEnvironment, VectorSimulator

START = Start(task="drawer-open", seed=0, episode=0)
OTHER = Start(task="window-open", seed=0, episode=1)


@pytest.fixture(scope="module")
def solution(suite: MetaWorld, environment: MetaWorldEnvironment) -> np.ndarray:
    """The expert's actions (T, A) up to success from START."""
    collection = Collection(tasks=(START.task,), episodes=1, after_success=0)
    tried = attempt(environment, suite, START, collection)
    assert tried.episode is not None
    return tried.episode.frames["action"]


@pytest.fixture
def chunked(suite: MetaWorld) -> Iterator[list[ChunkEnvironment]]:
    made = [ChunkEnvironment(suite, obs_horizon=2) for _ in range(2)]
    yield made
    for environment in made:
        environment.close()


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return set(first) == set(second) and all(np.array_equal(first[key], second[key]) for key in first)


def test_a_chunk_equals_its_single_steps_bitwise(chunked: list[ChunkEnvironment]) -> None:
    whole, single = chunked
    for environment in chunked:
        environment.start = START
    assert same(whole.reset()[0], single.reset()[0])
    rng = np.random.default_rng(0)
    for length in (1, 3, 8):
        actions = rng.uniform(-1, 1, (length, 4)).astype(np.float32)
        observation, *_, info = whole.step(actions)
        for row in actions:
            expected, *_ = single.step(row[None])
        assert info == {"executed": length, "success": False}
        assert same(observation, expected), f"a chunk of {length} is not {length} single steps"


def test_windows_stack_the_newest_frames_and_repeat_the_first(
    suite: MetaWorld, chunked: list[ChunkEnvironment]
) -> None:
    chunk = chunked[0]
    chunk.start = START
    first, _ = chunk.reset()
    assert set(first) == set(chunk.observation_space) and chunk.observation_space.contains(first)
    for value in first.values():
        assert value.shape[0] == 2 and np.array_equal(value[0], value[1])
    world = suite.make()
    try:
        world.begin(START)
        frames = [world.observe()]
        actions = np.random.default_rng(1).uniform(-1, 1, (3, 4)).astype(np.float32)
        for action in actions:
            world.step(action)
            frames.append(world.observe())
    finally:
        world.close()
    window, *_ = chunk.step(actions)
    for key, value in window.items():
        assert np.array_equal(value[0], frames[2][key]) and np.array_equal(value[1], frames[3][key])


def test_a_finished_episode_stays_still(chunked: list[ChunkEnvironment], solution: np.ndarray) -> None:
    chunk = chunked[0]
    chunk.start = START
    chunk.reset()
    beyond = np.concatenate([solution, np.ones((5, 4), np.float32)])
    observation, reward, success, truncated, info = chunk.step(beyond)
    assert (reward, success, truncated) == (1.0, True, False)
    assert info == {"executed": len(solution), "success": True}, "the episode ends with its success"
    again, _, success, _, info = chunk.step(np.ones((4, 4), np.float32))
    assert info["executed"] == 0 and success and same(again, observation)


def test_the_time_limit_ends_an_episode(suite: MetaWorld) -> None:
    from dataclasses import replace

    chunk = ChunkEnvironment(replace(suite, max_steps=5), obs_horizon=1)
    try:
        with pytest.raises(KinemaError, match="set the attribute `start`"):
            chunk.reset()
        chunk.start = START
        chunk.reset()
        assert chunk.step(np.zeros((3, 4), np.float32))[2:4] == (False, False)
        *_, success, truncated, info = chunk.step(np.zeros((3, 4), np.float32))
        assert not success and truncated and info["executed"] == 2
        assert chunk.step(np.zeros((3, 4), np.float32))[4]["executed"] == 0
    finally:
        chunk.close()


def test_slots_in_processes_do_as_one_alone(
    suite: MetaWorld, chunked: list[ChunkEnvironment], solution: np.ndarray
) -> None:
    alone = chunked[0]
    alone.start = OTHER
    expected, _ = alone.reset()
    simulator = VectorSimulator(suite, num_envs=2, obs_horizon=2)
    try:
        simulator.reset({0: START})
        observation = simulator.reset({1: OTHER})
        assert all(value.shape[0] == 2 for value in observation.values())
        assert same({key: value[1] for key, value in observation.items()}, expected)
        still = {key: value[0].copy() for key, value in observation.items()}
        finished = 0
        for begin in range(0, len(solution), 16):
            part = solution[begin : begin + 16]
            part = np.concatenate([part, np.zeros((16 - len(part), 4), np.float32)])
            step = simulator.step(np.stack([part, part[::-1]]))
            expected, *_ = alone.step(part[::-1])
            assert same({key: value[1] for key, value in step.observation.items()}, expected)
            finished += int(step.executed[0])
        assert step.success.tolist() == [True, False] and step.done.tolist() == [True, False]
        assert finished == len(solution)
        after = simulator.step(np.ones((2, 4, 4), np.float32))
        assert after.executed.tolist() == [0, 4] and after.done.tolist() == [True, False]
        assert same(*({key: value[0] for key, value in s.observation.items()} for s in (step, after)))
        begun = simulator.reset({0: START})
        assert same({key: value[0] for key, value in begun.items()}, still), "a slot begins anew"
        assert same(*({key: value[1] for key, value in o.items()} for o in (after.observation, begun)))
    finally:
        simulator.close()
