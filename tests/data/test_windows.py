"""Windows against a reference that walks row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinema.core.errors import KinemaError, SpecMismatch
from kinema.data.lerobot.reader import Dataset
from kinema.data.windows import Windows, frames_of

LENGTHS = (6, 1, 9, 4, 7, 5)


def reference(dataset: Dataset, episodes: list[int], horizons: tuple[int, int], index: int) -> dict[str, Any]:
    """Return window `index`, one step at a time."""
    rows = [(e, step) for e in episodes for step in range(dataset.episodes[e].length)]
    episode, now = dataset.episodes[rows[index][0]], rows[index][1]
    past = [episode.start + max(0, now - back) for back in range(horizons[0] - 1, -1, -1)]
    ahead = [now + step for step in range(horizons[1])]
    future = [episode.start + min(step, episode.length - 1) for step in ahead]
    return {
        "image.front": np.stack([dataset.images("front")[row] for row in past]),
        "vector.force": np.stack([dataset.column("vector.force")[row] for row in past]),
        "action": np.stack([dataset.column("action")[row] for row in future]),
        "mask": np.array([step < episode.length for step in ahead]),
        "instruction": episode.instruction,
    }


@given(data=st.data(), obs_horizon=st.integers(1, 4), pred_horizon=st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_against_the_reference(dataset: Dataset, data: st.DataObject, obs_horizon: int, pred_horizon: int) -> None:
    episodes = data.draw(st.lists(st.integers(0, 5), min_size=1, unique=True))
    windows = Windows(dataset, obs_horizon=obs_horizon, pred_horizon=pred_horizon, episodes=episodes)
    assert len(windows) == sum(dataset.episodes[e].length for e in episodes)
    indices = data.draw(st.lists(st.integers(0, len(windows) - 1), min_size=1, max_size=8))
    batch = windows.batch(np.array(indices))
    for place, index in enumerate(indices):
        for key, expected in reference(dataset, episodes, (obs_horizon, pred_horizon), index).items():
            assert np.array_equal(batch[key][place], expected), key


def test_shapes_and_types(dataset: Dataset) -> None:
    batch = Windows(dataset, obs_horizon=2, pred_horizon=5).batch(np.array([0, 31, 7]))
    assert list(batch) == [
        "image.front",
        "image.wrist",
        "vector.proprioception",
        "vector.full_state",
        "vector.force",
        "instruction",
        "action",
        "mask",
    ]
    assert batch["image.wrist"].shape == (3, 2, 24, 32, 3) and type(batch["image.wrist"]) is np.ndarray
    assert batch["vector.full_state"].shape == (3, 2, 3) and batch["vector.full_state"].dtype == np.float32
    assert batch["action"].shape == (3, 5, 2) and batch["mask"].dtype == bool
    assert batch["instruction"] == ["do thing 0", "do thing 2", "do thing 2"]
    assert batch["mask"][1].tolist() == [True, False, False, False, False]
    batch["action"][:] = 0
    assert dataset.column("action").any(), "a batch is a copy"


def test_selection(dataset: Dataset) -> None:
    windows = Windows(dataset, obs_horizon=1, pred_horizon=1, keys=("vector.force", "image.wrist"))
    assert set(windows.batch(np.array([0]))) == {"vector.force", "image.wrist", "action", "mask"}
    assert windows.spec.observation.keys == ("image.wrist", "vector.force")


def test_errors(dataset: Dataset) -> None:
    with pytest.raises(KinemaError, match="obs_horizon 0: expected at least 1"):
        Windows(dataset, obs_horizon=0, pred_horizon=1)
    with pytest.raises(SpecMismatch, match=r"no observation 'image\.wirst'; did you mean 'image\.wrist'"):
        Windows(dataset, obs_horizon=1, pred_horizon=1, keys=("image.wirst",))
    for episodes, message in (([6], "no episode 6: .* has episodes 0 to 5"), ([], "no episode"), ([1, 1], "twice")):
        with pytest.raises(KinemaError, match=message):
            Windows(dataset, obs_horizon=1, pred_horizon=1, episodes=episodes)
    windows = Windows(dataset, obs_horizon=1, pred_horizon=1)
    for indices in (np.array([32]), np.array([-1])):
        with pytest.raises(KinemaError, match="there are windows 0 to 31"):
            windows.batch(indices)
    with pytest.raises(KinemaError, match=r"expected \(B,\) whole numbers"):
        windows.batch(np.array([0.5]))


KEYS = ("image.front", "vector.force", "vector.proprioception", "action")
OFFSETS = st.lists(st.integers(-12, 12), min_size=1, max_size=4)


@given(
    data=st.data(),
    request=st.dictionaries(st.sampled_from(KEYS), OFFSETS, min_size=1),
)
@settings(max_examples=40, deadline=None)
def test_requests_in_seconds_against_the_meaning_of_delta_timestamps(
    dataset: Dataset, data: st.DataObject, request: dict[str, list[int]]
) -> None:
    """LeRobot's rule: rows clamped to the episode, `is_pad` where they had to be."""
    seconds = {key: tuple(frames / 10 for frames in offsets) for key, offsets in request.items()}
    episodes = data.draw(st.lists(st.integers(0, 5), min_size=1, unique=True))
    windows = Windows(dataset, request=seconds, episodes=episodes, observation_masks=True)
    rows = [(dataset.episodes[e], dataset.episodes[e].start + i) for e in episodes for i in range(LENGTHS[e])]
    indices = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=5))
    batch = windows.batch(np.array(indices))
    assert set(batch) == {*request, "instruction"} | {"mask" if key == "action" else f"mask.{key}" for key in request}
    for key, offsets in request.items():
        source = dataset.images("front") if key == "image.front" else dataset.column(key)
        for place, (episode, row) in enumerate(rows[index] for index in indices):
            first, end = episode.start, episode.start + episode.length
            wanted = [max(first, min(end - 1, row + delta)) for delta in offsets]
            padded = [row + delta < first or row + delta >= end for delta in offsets]
            assert np.array_equal(batch[key][place], source[wanted])
            mask = batch["mask" if key == "action" else f"mask.{key}"]
            assert mask[place].tolist() == [not pad for pad in padded]


def test_horizons_are_a_request(dataset: Dataset) -> None:
    past, ahead = (-0.2, -0.1, 0.0), tuple(step / 10 for step in range(5))
    asked = {key: past for key in dataset.spec.observation.keys if key != "instruction"} | {"action": ahead}
    horizons = Windows(dataset, obs_horizon=3, pred_horizon=5)
    request = Windows(dataset, request=asked)
    assert horizons.offsets == request.offsets and horizons.spec == request.spec
    for key, value in horizons.batch(np.arange(32)).items():
        assert np.array_equal(request.batch(np.arange(32))[key], value), key


def test_seconds_to_frames() -> None:
    assert frames_of({"a": (-0.1, 0.0, 1.5)}, 30.0) == {"a": (-3, 0, 45)}
    assert frames_of({"a": (1 / 3,)}, 30.0) == {"a": (10,)}
    at_200_hz = {"action": tuple(k / 200 for k in range(11))}
    with pytest.raises(
        KinemaError, match=r"0\.005 s is no whole number of frames at 30 Hz; the nearest frame is at 0 s"
    ):
        frames_of(at_200_hz, 30.0)
    # 0.15 frames a step: 0.45 is nearest to 0, 0.6 to 1, and 1.5 lies between 1 and 2, of which 1 is earlier.
    assert frames_of(at_200_hz, 30.0, nearest=True)["action"] == (0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1)
    assert frames_of({"image": (-0.05,)}, 10.0, nearest=True) == {"image": (-1,)}, "not the frame that comes later"
    for times in ((), (float("nan"),)):
        with pytest.raises(KinemaError, match="expected one or more times in seconds"):
            frames_of({"a": times}, 10.0)


def test_requests_that_do_not_fit_are_named(dataset: Dataset) -> None:
    with pytest.raises(SpecMismatch, match=r"no observation 'image\.fornt'; did you mean 'image\.front'"):
        Windows(dataset, request={"image.fornt": (0.0,)})
    with pytest.raises(SpecMismatch, match="it has no times"):
        Windows(dataset, request={"instruction": (0.0,)})
    with pytest.raises(KinemaError, match="either a request in seconds"):
        Windows(dataset, request={"action": (0.0,)}, obs_horizon=1)
    with pytest.raises(KinemaError, match="either a request in seconds"):
        Windows(dataset, obs_horizon=1, pred_horizon=1, nearest=True)
    with pytest.raises(KinemaError, match="pred_horizon None: expected at least 1"):
        Windows(dataset, obs_horizon=1)
    assert set(Windows(dataset, request={"vector.force": (0.0,)}).batch(np.array([3]))) == {
        "vector.force",
        "instruction",
    }


def test_further_columns_come_at_the_observed_steps(dataset: Dataset) -> None:
    rows = np.arange(32 * 6, dtype=np.float32).reshape(32, 2, 3)
    windows = Windows(dataset, obs_horizon=3, pred_horizon=1, keys=("vector.force",), columns={"features.x": rows})
    batch = windows.batch(np.array([0, 8]))
    assert batch["features.x"].shape == (2, 3, 2, 3) and type(batch["features.x"]) is np.ndarray
    assert np.array_equal(batch["features.x"][0], rows[[0, 0, 0]]), "the first step of an episode is repeated"
    assert np.array_equal(batch["features.x"][1], rows[[7, 7, 8]])
    with pytest.raises(KinemaError, match="give either a request"):
        Windows(dataset, request={"action": (0.0,)}, columns={"features.x": rows})
