"""Streaming gives the same windows as the cache, each once an epoch, in bounded memory."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from kinema.core.errors import KinemaError
from kinema.data.lerobot.reader import Dataset, open_dataset
from kinema.data.shuffle import LocalShuffle
from kinema.data.stream import HeldFrames, stream
from kinema.data.windows import Windows

FRAME = 33 * 31 * 3 + 24 * 32 * 3
HORIZONS = {"obs_horizon": 2, "pred_horizon": 3}


@pytest.mark.parametrize("prefetch", [0, 3])
def test_an_epoch_is_that_of_the_cache(dataset: Dataset, recorded: Path, tmp_path: Path, prefetch: int) -> None:
    """24 of the 32 frames of each camera fit, so that some are dropped and decoded again."""
    opened = open_dataset(recorded, cache=tmp_path / "none")
    loader = stream(opened, **HORIZONS, batch_size=4, seed=2, memory_bytes=24 * FRAME, chunk=4, prefetch=prefetch)
    windows = Windows(dataset, **HORIZONS)
    order = np.concatenate([loader.indices(step) for step in range(16)])
    assert sorted(order[:32]) == sorted(order[32:]) == list(range(32))
    batches = loader.batches()
    for step, batch in enumerate(itertools.islice(batches, 16)):
        for key, value in windows.batch(loader.indices(step)).items():
            assert np.array_equal(batch[key], value), (step, key)
    batches.close()
    resumed = stream(opened, **HORIZONS, batch_size=4, seed=2, memory_bytes=24 * FRAME, chunk=4).batches(11)
    assert np.array_equal(next(resumed)["image.front"], windows.batch(loader.indices(11))["image.front"])
    resumed.close()
    assert not list(tmp_path.rglob("*.u8")), "nothing is written"


def test_any_order_in_a_window_of_frames(dataset: Dataset) -> None:
    frames = HeldFrames(*dataset.videos("front"), len(dataset), capacity=3)
    rng = np.random.default_rng(0)
    for _ in range(20):
        rows = rng.integers(0, 32, (4, 2))
        assert np.array_equal(frames.read(rows), dataset.images("front")[rows])


def test_frames_are_hardly_decoded_twice(dataset: Dataset) -> None:
    windows = Windows(dataset, obs_horizon=1, pred_horizon=1)
    order = LocalShuffle(windows.lengths, spread=8, chunk=4)(np.random.default_rng(1))
    frames = HeldFrames(*dataset.videos("front"), len(dataset), capacity=12)
    for rows in windows.rows[order].reshape(8, 4):
        frames.read(rows)
    assert 32 <= frames.decoded <= 32 + 6, "beyond each frame once: groups of pictures at the ends of chunks"


def test_too_little_memory_says_how_much_is_needed(dataset: Dataset) -> None:
    with pytest.raises(KinemaError, match=rf"room for 1 frames, batches of 4 need 16: {16 * FRAME} bytes"):
        stream(dataset, **HORIZONS, batch_size=4, seed=0, memory_bytes=FRAME)
