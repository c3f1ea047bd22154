"""Statistics over rows, exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from kinema.core.episode import Episode
from kinema.core.spec import RobotSpec
from kinema.data.lerobot.reader import Dataset, open_dataset
from kinema.data.lerobot.writer import DatasetWriter
from kinema.data.stats import statistics


def test_all_rows_and_some(dataset: Dataset) -> None:
    table = statistics(dataset)
    assert set(table) == {"action", "vector.proprioception", "vector.full_state", "vector.force"}
    action = dataset.column("action").astype(np.float64)
    assert np.array_equal(table["action"]["mean"], action.mean(axis=0))
    assert np.array_equal(table["action"]["q99"], np.quantile(action, 0.99, axis=0))
    assert set(table["action"]) == {"mean", "std", "min", "max", "q01", "q10", "q50", "q90", "q99", "count"}
    assert all(value.dtype == np.float64 for entry in table.values() for value in entry.values())
    part = statistics(dataset, episodes=(0, 2))
    rows = np.r_[0:6, 7:16]
    assert np.array_equal(part["action"]["std"], action[rows].std(axis=0)) and part["action"]["count"].tolist() == [15]


def test_by_hand_with_a_constant(tmp_path: Path, spec: RobotSpec, make_episode: Callable[..., Episode]) -> None:
    episode = make_episode(0, 5)
    action = np.array([[0, 3], [1, 3], [2, 3], [3, 3], [4, 3]], np.float32)
    DatasetWriter(tmp_path / "d", spec, provenance={}).append(
        replace(episode, frames={**episode.frames, "action": action})
    )
    table = statistics(open_dataset(tmp_path / "d"))["action"]
    assert table["mean"].tolist() == [2, 3] and table["std"].tolist() == [np.sqrt(2), 0]
    assert (table["min"].tolist(), table["max"].tolist()) == ([0, 3], [4, 3])
    assert np.allclose(
        [table[q] for q in ("q01", "q10", "q50", "q90", "q99")], [[0.04, 3], [0.4, 3], [2, 3], [3.6, 3], [3.96, 3]]
    )
