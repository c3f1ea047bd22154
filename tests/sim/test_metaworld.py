"""Meta-World as this project plays it; what every suite must do is in the contract tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kinema.core.episode import Start
from kinema.core.errors import KinemaError, SpecMismatch
from kinema.core.spec import Camera, ObservationSpec
from kinema.sim.suites.metaworld import FULL_STATE, MT10, VIEWS, MetaWorld, MetaWorldEnvironment

SEVERAL_OBJECTS = ("pick-place-wall", "stick-pull", "bin-picking")


@pytest.mark.parametrize("task", SEVERAL_OBJECTS)
def test_the_whole_simulator_state_is_a_function_of_the_start(
    suite: MetaWorld, environment: MetaWorldEnvironment, task: str
) -> None:
    starts = [Start(task=task, seed=0, episode=episode) for episode in range(3)]
    states = []
    fresh = suite.make()
    try:
        for world, steps in ((environment, 0), (environment, 30), (fresh, 7)):
            for start in starts:
                world.begin(start)
                data = world._simulators[task].data
                states.append(np.concatenate([data.qpos, data.qvel, data.mocap_pos.ravel(), world._state]))
                for index in range(steps):
                    world.step(np.array([np.sin(index), np.cos(index), -1, 1], np.float32))
    finally:
        fresh.close()
    for index in range(3):
        assert np.array_equal(states[index], states[3 + index]) and np.array_equal(states[index], states[6 + index])
    assert not np.array_equal(states[0], states[1]) and not np.array_equal(states[1], states[2])


def test_the_goal_is_visible_and_the_state_has_its_names(environment: MetaWorldEnvironment) -> None:
    environment.begin(Start(task="reach", seed=0, episode=0))
    state = environment.expert_state()
    assert state.shape == (39,) == (len(FULL_STATE.components),)
    named = dict(zip(FULL_STATE.components, state, strict=True))
    simulator = environment._simulators["reach"]
    assert [named[f"goal_{axis}"] for axis in "xyz"] == simulator._target_pos.tolist()
    assert [named[f"now.hand_{axis}"] for axis in "xyz"] == simulator.get_endeff_pos().tolist()
    before = state[:4].copy()
    environment.step(np.array([1, 0, 0, 0], np.float32))
    assert np.array_equal(environment.expert_state()[18:22], before)


def test_one_unit_of_action_is_a_centimetre_of_displacement(environment: MetaWorldEnvironment) -> None:
    environment.begin(Start(task="reach", seed=0, episode=0))
    mocap = environment._simulators["reach"].data.mocap_pos
    before = mocap[0].copy()
    environment.step(np.array([0.5, 0, 1, 0], np.float32))
    assert (mocap[0] - before) * 100 == pytest.approx([0.5, 0.0, 1.0], abs=1e-6)


def test_selections() -> None:
    suite = MetaWorld()
    assert suite.select(["mt10"]) == MT10 and len(MT10) == 10 and len(suite.select(["mt50"])) == 50
    assert suite.select(["drawer-open", "demo", "drawer-open"])[0] == "drawer-open"
    groups = [suite.select([group]) for group in ("easy", "medium", "hard", "very-hard")]
    assert [len(group) for group in groups] == [28, 11, 6, 5] and len({t for g in groups for t in g}) == 50


def test_wrong_options_are_named() -> None:
    for options, message in (
        ({"cameras": ("cornr",)}, "unknown Meta-World camera 'cornr'; did you mean 'corner'"),
        ({"rendering": "fst"}, "unknown rendering quality 'fst'; did you mean 'fast'"),
        ({"size": 8}, r"size 8 \(16 to 2048 px\)"),
        ({"max_steps": 501}, r"max_steps 501 \(1 to 500\)"),
    ):
        with pytest.raises(KinemaError, match=message):
            MetaWorld(**options)


def test_offering_takes_size_views_and_state_from_the_observation() -> None:
    suite = MetaWorld(cameras=("corner",), size=64)
    wanted = ObservationSpec(cameras=(Camera(name="topview", height=32, width=32),), vectors=(FULL_STATE,))
    offered = suite.offering(wanted)
    assert (offered.cameras, offered.size, offered.full_state) == (("topview",), 32, True)
    assert offered.rendering == suite.rendering and offered.max_steps == suite.max_steps
    assert suite.offering(ObservationSpec()).size == 64
    for cameras in (
        (Camera(name="corner", height=32, width=48),),
        (Camera(name="corner", height=32, width=32), Camera(name="topview", height=48, width=48)),
    ):
        with pytest.raises(SpecMismatch, match="square pictures of one size"):
            suite.offering(replace(wanted, cameras=cameras))


def test_every_view_shows_something_else(environment: MetaWorldEnvironment) -> None:
    environment.begin(Start(task="drawer-open", seed=0, episode=0))
    pictures = {view: environment._render(view, 24).astype(int) for view in VIEWS}
    names = list(VIEWS)
    for index, first in enumerate(names):
        assert pictures[first].std() > 5, f"{first} sees nothing"
        for second in names[index + 1 :]:
            assert np.abs(pictures[first] - pictures[second]).mean() > 2, f"{first} and {second} show the same"
