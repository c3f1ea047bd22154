"""Windows against a reference that walks row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinema.core.errors import KinemaError, SpecMismatch
from kinema.data.lerobot.reader import Dataset
from kinema.data.windows import Windows


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
