"""Batches depend on seed and step alone."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kinema.core.errors import KinemaError
from kinema.core.manifest import cores
from kinema.data.lerobot.reader import Dataset, EpisodeRecord
from kinema.data.loader import Loader, split_episodes
from kinema.data.windows import Windows


@pytest.fixture(scope="module")
def windows(dataset: Dataset) -> Windows:
    return Windows(dataset, obs_horizon=1, pred_horizon=2, keys=("vector.force",))


def jitter(sample: Mapping[str, Any], rng: np.random.Generator) -> Mapping[str, Any]:
    return {**sample, "action": sample["action"] + rng.normal(size=sample["action"].shape).astype(np.float32)}


def test_every_epoch_sees_every_window_once(windows: Windows) -> None:
    loader = Loader(windows, batch_size=5, seed=1)
    seen = np.concatenate([loader.indices(step) for step in range(32)])
    epochs = seen.reshape(5, 32)
    assert all(sorted(epoch) == list(range(32)) for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(Loader(windows, batch_size=5, seed=2).indices(0), loader.indices(0))


def test_a_batch_may_be_longer_than_an_epoch(windows: Windows) -> None:
    assert np.bincount(Loader(windows, batch_size=80, seed=0).indices(3)).tolist() != []
    whole = Loader(windows, batch_size=64, seed=0).indices(7)
    assert (np.bincount(whole) == 2).all()


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_resuming_at_any_step_is_exact(windows: Windows, prefetch: int) -> None:
    loader = Loader(windows, batch_size=7, seed=3, augment=jitter, prefetch=prefetch)
    whole = list(itertools.islice(loader.batches(0), 12))
    resumed = loader.batches(9)
    for expected, batch in zip(whole[9:], resumed, strict=False):
        assert np.array_equal(batch["action"], expected["action"])
        assert np.array_equal(batch["mask"], expected["mask"])
    other = Loader(windows, batch_size=7, seed=3, augment=jitter).batch(10)
    assert np.array_equal(other["action"], whole[10]["action"])


def loader_threads() -> int:
    return sum(thread.name.startswith("loader") for thread in threading.enumerate())


def test_closing_stops_the_thread(windows: Windows) -> None:
    before = loader_threads()
    batches = Loader(windows, batch_size=4, seed=0).batches(0)
    next(batches)
    assert before < loader_threads() <= before + cores()
    batches.close()
    assert loader_threads() == before


def test_prefetching_is_bounded(windows: Windows) -> None:
    made: list[int] = []

    def count(sample: Mapping[str, Any], rng: np.random.Generator) -> Mapping[str, Any]:
        made.append(1)
        return sample

    batches = Loader(windows, batch_size=4, seed=0, augment=count, prefetch=2).batches(0)
    next(batches)
    time.sleep(0.2)
    assert len(made) <= 4
    batches.close()


def test_what_the_thread_raises_is_raised_here(windows: Windows) -> None:
    def fail(sample: Mapping[str, Any], rng: np.random.Generator) -> Mapping[str, Any]:
        raise KinemaError("no such crop")

    batches = Loader(windows, batch_size=4, seed=0, augment=fail).batches(0)
    with pytest.raises(KinemaError, match="no such crop"):
        next(batches)
    assert loader_threads() == 0
    with pytest.raises(KinemaError, match="step -1: expected 0 or more"):
        next(Loader(windows, batch_size=4, seed=0).batches(-1))
    with pytest.raises(KinemaError, match="batch_size 0"):
        Loader(windows, batch_size=0, seed=0)


def episodes(counts: dict[str, int]) -> SimpleNamespace:
    """Return something with the episodes of a dataset, `counts` of each task."""
    tasks = [task for task, count in counts.items() for _ in range(count)]
    records = [
        EpisodeRecord(index=i, length=1, start=i, instruction=task, origin={"task": task}, success=True)
        for i, task in enumerate(tasks)
    ]
    return SimpleNamespace(episodes=tuple(records))


def test_split_is_stratified() -> None:
    data: Any = episodes({"a": 40, "b": 5, "c": 4, "d": 1})
    train, held_out = split_episodes(data, 0.1, seed=0)
    assert sorted(train + held_out) == list(range(50)) and list(held_out) == sorted(held_out)
    per_task = {task: sum(data.episodes[i].instruction == task for i in held_out) for task in "abcd"}
    assert per_task == {"a": 4, "b": 1, "c": 0, "d": 0}
    assert split_episodes(data, 0.1, seed=0) == (train, held_out)
    assert split_episodes(data, 0.1, seed=1)[1] != held_out
    assert split_episodes(data, 0.0, seed=0)[1] == ()
    assert {data.episodes[i].instruction for i in split_episodes(data, 0.99, seed=0)[0]} == set("abcd")
    with pytest.raises(KinemaError, match=r"held_out_fraction 1\.0"):
        split_episodes(data, 1.0, seed=0)
