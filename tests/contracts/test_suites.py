"""Every suite: tasks, texts, a typed interface, and starts that are a function of (seed, task, episode) alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kinema.core.config import from_data, to_data
from kinema.core.episode import Start
from kinema.core.errors import KinemaError, SpecMismatch, UnavailableError
from kinema.core.names import find, members
from kinema.core.spec import Camera, Vector, check_observation
from kinema.sim.suites.base import SimEnvironment, Suite

NAMES = members("suite")


@pytest.fixture(scope="module")
def environments() -> Iterator[dict[str, SimEnvironment]]:
    made: dict[str, SimEnvironment] = {}
    yield made
    for environment in made.values():
        environment.close()


@pytest.fixture
def suite(name: str) -> Suite:
    return find("suite", name)()


@pytest.fixture
def environment(name: str, suite: Suite, environments: dict[str, SimEnvironment]) -> SimEnvironment:
    try:
        return environments.setdefault(name, environments.get(name) or suite.make())
    except UnavailableError as error:
        pytest.skip(str(error))


def spread(suite: Suite, count: int) -> list[str]:
    """Return `count` tasks, spaced evenly."""
    tasks = list(suite.tasks)
    return [tasks[i] for i in sorted({round(i) for i in np.linspace(0, len(tasks) - 1, count)})]


def snapshot(environment: SimEnvironment) -> dict[str, np.ndarray]:
    return {**environment.observe(), "expert": environment.expert_state().copy()}


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(first[key], second[key]) for key in first)


def play(environment: SimEnvironment, suite: Suite, steps: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        environment.step(rng.uniform(suite.spec.action.low, suite.spec.action.high).astype(np.float32))


def check_starts(suite: Suite, environment: SimEnvironment, tasks: list[str]) -> None:
    """Begin the same episodes in two orders, with other things played in between and in another simulator."""
    starts = [Start(task=task, seed=3, episode=episode) for task in tasks for episode in (0, 1)]
    first = {}
    for start in starts:
        environment.begin(start)
        first[start] = snapshot(environment)
        play(environment, suite, 15)
    fresh = suite.make()
    try:
        for index, start in enumerate(reversed(starts)):
            for world in (environment, fresh):
                world.begin(start)
                assert same(snapshot(world), first[start]), f"{start} depends on what was played before"
                play(world, suite, 5 + index % 3, seed=index)
    finally:
        fresh.close()
    for task in tasks:
        one, other = first[starts[2 * tasks.index(task)]], first[starts[2 * tasks.index(task) + 1]]
        assert not np.array_equal(one["expert"], other["expert"]), f"{task}: episodes 0 and 1 begin alike"


@pytest.mark.parametrize("name", NAMES)
def test_tasks_have_texts_and_selections_resolve(suite: Suite) -> None:
    assert suite.tasks
    for name, task in suite.tasks.items():
        texts = (task.instruction, *task.paraphrases, *task.held_out)
        assert task.name == name and task.group and task.paraphrases and task.held_out
        assert len(set(texts)) == len(texts) and all(text.strip() for text in texts)
    for name, chosen in suite.selections.items():
        assert name not in suite.tasks and chosen
        assert suite.select([name]) == chosen == suite.select([name, *chosen])
    with pytest.raises(KinemaError, match="unknown task 'nothing-like-it'"):
        suite.select(["nothing-like-it"])
    task = next(iter(suite.tasks))
    with pytest.raises(KinemaError, match=f"did you mean '{task}'"):
        suite.select([task + "x"])
    assert from_data(to_data(suite)) == suite


@pytest.mark.parametrize("name", NAMES)
def test_observations_fit_the_spec(suite: Suite, environment: SimEnvironment) -> None:
    for task in spread(suite, 3):
        environment.begin(Start(task=task, seed=0, episode=0))
        frame = environment.observe()
        batch: dict[str, Any] = {key: value[None, None] for key, value in frame.items()}
        if suite.spec.observation.instruction:
            batch["instruction"] = [suite.tasks[task].instruction]
        check_observation(batch, suite.spec.observation, batch=1, obs_horizon=1)
        for camera in suite.spec.observation.cameras:
            assert frame[camera.key].std() > 5, f"{camera.name} sees nothing"
        picture = environment.picture(48)
        assert picture.shape == (48, 48, 3) and picture.dtype == np.uint8


@pytest.mark.parametrize("name", NAMES)
def test_starts_are_a_function_of_seed_task_and_episode(suite: Suite, environment: SimEnvironment) -> None:
    tasks = spread(suite, 6)
    check_starts(suite, environment, tasks)
    environment.begin(Start(task=tasks[0], seed=3, episode=0))
    one = snapshot(environment)
    environment.begin(Start(task=tasks[0], seed=4, episode=0))
    assert not np.array_equal(one["expert"], snapshot(environment)["expert"]), "the seed changes nothing"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_all_starts_are_a_function_of_seed_task_and_episode(suite: Suite, environment: SimEnvironment) -> None:
    check_starts(suite, environment, list(suite.tasks))


@pytest.mark.parametrize("name", NAMES)
def test_motion_is_a_function_of_start_and_actions(suite: Suite, environment: SimEnvironment) -> None:
    start = Start(task=spread(suite, 3)[1], seed=1, episode=2)
    ends = []
    for between in (0, 7):
        play(environment, suite, between) if ends else None
        environment.begin(start)
        play(environment, suite, 20, seed=9)
        ends.append(snapshot(environment))
    assert same(*ends)


@pytest.mark.parametrize("name", NAMES)
def test_the_expert_solves_an_easy_task(suite: Suite, environment: SimEnvironment) -> None:
    easy = [task.name for task in suite.tasks.values() if task.group == "easy"] or list(suite.tasks)
    low, high = np.array(suite.spec.action.low), np.array(suite.spec.action.high)
    for task in easy[:3]:
        expert = suite.expert(task)
        environment.begin(Start(task=task, seed=0, episode=0))
        for _ in range(suite.max_steps):
            action = expert(environment.expert_state())
            assert action.dtype == np.float32 and (action >= low).all() and (action <= high).all()
            if environment.step(action):
                return
    pytest.fail(f"the expert solved none of {easy[:3]}")


@pytest.mark.parametrize("name", NAMES)
def test_offering_switches_observations_and_refuses_foreign_ones(suite: Suite) -> None:
    observation = suite.spec.observation
    assert suite.offering(observation).spec == suite.spec
    one = replace(observation, cameras=observation.cameras[-1:])
    assert suite.offering(one).spec.observation.cameras == one.cameras
    with pytest.raises(SpecMismatch, match="no camera 'no-such-view'"):
        suite.offering(replace(observation, cameras=(Camera(name="no-such-view", height=64, width=64),)))
    foreign = Vector(name="no-such-vector", components=("a",), units=("m",), frame="world")
    with pytest.raises(SpecMismatch, match="no vector 'no-such-vector'"):
        suite.offering(replace(observation, vectors=(foreign,)))


@pytest.mark.parametrize("name", NAMES)
def test_unusable_actions_and_unknown_tasks(suite: Suite, environment: SimEnvironment) -> None:
    action, start = suite.spec.action, Start(task=next(iter(suite.tasks)), seed=0, episode=0)
    bound = np.where(np.arange(action.width) % 2 == 0, action.high, action.low).astype(np.float32)
    ends = []
    for scale in (1.0, 100.0):
        environment.begin(start)
        for _ in range(3):
            environment.step(bound * np.float32(scale))
        ends.append(snapshot(environment))
    assert same(*ends), "actions beyond the bounds are not clipped to them"
    for bad in (np.full(action.width, np.nan, np.float32), np.zeros(action.width + 1, np.float32)):
        with pytest.raises(KinemaError, match="finite numbers"):
            environment.step(bad)
    with pytest.raises(KinemaError, match="unknown task"):
        environment.begin(replace(start, task="nothing-like-it"))
    with pytest.raises(KinemaError, match="unknown task"):
        suite.expert("nothing-like-it")
