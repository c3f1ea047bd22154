"""Statistics over rows, exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinema.core.episode import Episode
from kinema.core.errors import KinemaError
from kinema.core.spec import RobotSpec
from kinema.data.lerobot.episode_stats import QUANTILES
from kinema.data.lerobot.reader import Dataset, open_dataset
from kinema.data.lerobot.writer import DatasetWriter
from kinema.data.stats import RunningStatistics, statistics, streamed
from kinema.data.windows import Windows


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


def _split(rows: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    ends = np.sort(rng.integers(0, len(rows) + 1, rng.integers(0, 9)))
    return list(np.split(rows, ends))


@settings(max_examples=40, derandomize=True, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e4, 1e30]))
def test_any_split_merged_is_all_at_once(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    rows = (rng.normal(rng.normal() * 3, 1, (rng.integers(1, 400), 3)) * scale).astype(np.float32)
    rows[:, 2] = 0.1
    whole, merged = RunningStatistics(3), RunningStatistics(3)
    whole.add(rows)
    parts = _split(rows, rng)
    for at in rng.permutation(len(parts)):
        part = RunningStatistics(3)
        part.add(parts[at])
        merged.merge(part)
    exact, have, table = rows.astype(np.float64), merged.result(), whole.result()
    for name in ("min", "max", "count", *QUANTILES):
        assert np.array_equal(have[name], table[name]), name
    for name in ("mean", "std"):
        assert np.allclose(have[name], table[name], rtol=1e-12, atol=1e-12 * scale)
        assert np.allclose(have[name], getattr(exact, name)(axis=0), rtol=1e-12, atol=1e-12 * scale)
    assert have["std"][2] == 0 and have["mean"][2] == np.float32(0.1)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_quantiles_are_within_a_bucket_of_numpy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = np.exp(rng.normal(size=(rng.integers(1, 500), 1)) * 5) * rng.choice([-1.0, 1.0])
    running = RunningStatistics(1)
    running.add(rows)
    exact = np.quantile(rows.astype(np.float32).astype(np.float64), list(QUANTILES.values()))
    have = np.array([running.result()[name][0] for name in QUANTILES])
    assert np.all(np.abs(have - exact) <= 2.0**-12 * np.abs(exact) * 1.001)


def test_zero_denormal_and_negative_zero() -> None:
    running = RunningStatistics(2)
    running.add(np.array([[-0.0, -1.0], [0.0, -1e-45], [0.0, 1e-45]]))
    table = running.result()
    assert table["q50"].tolist() == [0.0, pytest.approx(0.0, abs=1e-38)] and table["std"][0] == 0
    assert not np.signbit(table["q10"][0])


def test_constant_components_have_no_deviation_and_nothing_is_infinite() -> None:
    running = RunningStatistics(2)
    for chunk in (np.full((7, 2), 0.1), np.full((1, 2), 0.1), np.full((1000, 2), 0.1)):
        running.add(chunk)
    table = running.result()
    assert table["std"].tolist() == [0, 0] and all(np.isfinite(value).all() for value in table.values())
    assert all(np.array_equal(table[name], np.full(2, np.float32(0.1), np.float64)) for name in ("mean", *QUANTILES))


def test_errors_of_running_statistics() -> None:
    running = RunningStatistics(2)
    with pytest.raises(KinemaError, match="statistics of no rows"):
        running.result()
    with pytest.raises(KinemaError, match=r"width 2: rows of shape \(3, 1\)"):
        running.add(np.zeros((3, 1)))
    with pytest.raises(KinemaError, match="not finite"):
        running.add(np.array([[np.inf, 0]]))
    with pytest.raises(KinemaError, match="width 2 cannot take in those of width 1"):
        running.merge(RunningStatistics(1))


def test_streamed_after_a_transform_leaves_padding_out(dataset: Dataset) -> None:
    windows = Windows(dataset, obs_horizon=1, pred_horizon=4, keys=["vector.proprioception"])

    def relative(sample: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**sample, "action": sample["action"] - sample["vector.proprioception"][:, -1:]}

    table = streamed(windows, relative, chunk=5)
    action, state = dataset.column("action"), dataset.column("vector.proprioception")
    rows = [
        action[row + step] - state[row]
        for episode in dataset.episodes
        for row in range(episode.start, episode.start + episode.length)
        for step in range(min(4, episode.start + episode.length - row))
    ]
    exact = np.array(rows, np.float64)
    assert table["action"]["count"].tolist() == [len(rows)]
    assert np.allclose(table["action"]["mean"], exact.mean(axis=0), rtol=1e-12, atol=1e-12)
    assert np.allclose(table["action"]["q99"], np.quantile(exact, 0.99, axis=0), rtol=2.0**-11)
    assert set(table) == {"action", "vector.proprioception"}
    assert np.array_equal(table["vector.proprioception"]["max"], state.max(axis=0).astype(np.float64))


def test_every_observed_step_of_a_vector_counts(dataset: Dataset) -> None:
    """As the newest step alone would not: seen from itself it is always the same."""
    windows = Windows(dataset, obs_horizon=2, pred_horizon=1, keys=["vector.proprioception"])

    def relative(sample: Mapping[str, Any]) -> Mapping[str, Any]:
        state = sample["vector.proprioception"]
        return {**sample, "vector.proprioception": state - state[:, -1:]}

    table = streamed(windows, relative, chunk=5)["vector.proprioception"]
    state, rows = dataset.column("vector.proprioception"), []
    for episode in dataset.episodes:
        for row in range(episode.start, episode.start + episode.length):
            rows += [state[max(row - 1, episode.start)] - state[row], np.zeros(2, np.float32)]
    assert table["count"].tolist() == [2 * len(windows)] == [len(rows)]
    assert np.allclose(table["std"], np.std(rows, axis=0, dtype=np.float64), rtol=1e-12) and (table["std"] > 0.1).all()
