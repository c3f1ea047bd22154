"""Lang-Reach: the sentence decides, and ignoring it is worth a third."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from kinema.cli.record import Record
from kinema.core.episode import Start
from kinema.core.errors import KinemaError, SpecMismatch
from kinema.core.spec import Camera, ObservationSpec
from kinema.data.lerobot.reader import open_dataset
from kinema.sim.suites.lang_reach import COLOURS, POSITION, STEP_M, TARGET_M, LangReach

SUITE = LangReach()


def successes(asked: str, followed: str, episodes: int = 60) -> int:
    """Return how often the expert of `followed` succeeds in episodes of `asked`."""
    environment, expert = SUITE.make(), SUITE.expert(followed)
    won = 0
    for episode in range(episodes):
        environment.begin(Start(task=asked, seed=0, episode=episode))
        won += any(environment.step(expert(environment.expert_state())) for _ in range(SUITE.max_steps))
    return won


def test_the_expert_always_succeeds_and_that_of_another_colour_never() -> None:
    for asked in SUITE.tasks:
        for followed in SUITE.tasks:
            assert successes(asked, followed) == (60 if asked == followed else 0), f"{followed} in {asked}"


def test_touching_a_wrong_target_first_cannot_be_made_good() -> None:
    environment = SUITE.make()
    environment.begin(Start(task="reach-red", seed=0, episode=0))
    for task in ("reach-blue", "reach-red"):
        ends = [environment.step(SUITE.expert(task)(environment.expert_state())) for _ in range(SUITE.max_steps)]
        assert not any(ends), "the red target was the second"
    state = environment.expert_state()
    assert np.linalg.norm(state[:2] - state[2:4]) < TARGET_M


def test_starts_do_not_give_the_target_away() -> None:
    """Where a colour lies is symmetric: no place is worth more than a third."""
    environment = SUITE.make()
    places = []
    for episode in range(600):
        environment.begin(Start(task="reach-green", seed=0, episode=episode))
        places.append(environment.expert_state().reshape(4, 2))
    around = np.array(places)
    middle = around[:, 1:].mean(0)
    assert np.abs(middle).max() < 0.08, "four standard errors of 0.5 / sqrt(600)"
    apart = np.linalg.norm(around[:, 1:] - np.roll(around[:, 1:], 1, axis=1), axis=-1)
    assert apart.min() > 4 * TARGET_M and np.linalg.norm(around[:, 1:] - around[:, :1], axis=-1).min() > TARGET_M + 0.1


def test_one_action_moves_the_hand_by_a_decimetre_and_the_table_ends() -> None:
    environment = SUITE.make()
    environment.begin(Start(task="reach-red", seed=1, episode=0))
    before = environment.expert_state()
    environment.step(np.array([1.0, -0.5], np.float32))
    assert np.allclose(environment.expert_state()[:2] - before[:2], [STEP_M, -STEP_M / 2])
    for _ in range(30):
        environment.step(np.array([1.0, 1.0], np.float32))
    assert environment.observe()[POSITION.key].tolist() == [1.0, 1.0]


def test_the_picture_shows_every_colour_where_it_is() -> None:
    environment = SUITE.make()
    environment.begin(Start(task="reach-red", seed=2, episode=0))
    picture = environment.observe()["image.table"]
    assert picture.shape == (48, 48, 3)
    positions = environment.expert_state().reshape(4, 2)
    for (x, y), colour in zip(positions[1:], COLOURS.values(), strict=True):
        row, column = int((1 - y) / 2 * 48), int((1 + x) / 2 * 48)
        assert picture[row, column].tolist() == list(colour)
    row, column = int((1 - positions[0, 1]) / 2 * 48), int((1 + positions[0, 0]) / 2 * 48)
    assert picture[row, column].max() < 60, "the hand is dark"


def test_wrong_options_and_foreign_observations_are_named() -> None:
    with pytest.raises(KinemaError, match="one camera 'table', not"):
        LangReach(cameras=("wrist",))
    with pytest.raises(KinemaError, match="size 8"):
        LangReach(size=8)
    oblong = ObservationSpec(cameras=(Camera(name="table", height=32, width=48),), vectors=(POSITION,))
    with pytest.raises(SpecMismatch, match=re.escape("square pictures, not 32 x 48")):
        SUITE.offering(oblong)
    blind = SUITE.offering(ObservationSpec(cameras=(), vectors=(POSITION,), instruction=True))
    assert list(blind.make().observe()) == [POSITION.key]


def test_demonstrations_are_recorded_and_read_back(tmp_path: Path) -> None:
    asked = {"tasks": "all", "out": tmp_path / "data", "episodes": 2, "workers": 1, "overrides": ("--size", "32")}
    assert Record(suite="lang-reach", **asked).run() == 0
    dataset = open_dataset(tmp_path / "data")
    assert [episode.origin["task"] for episode in dataset.episodes] == [task for task in SUITE.tasks for _ in range(2)]
    assert dataset.spec == LangReach(size=32).spec
