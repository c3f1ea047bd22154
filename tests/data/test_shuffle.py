"""Epochs and local shuffles: every window once, reproducible, and as well mixed as stated."""

from __future__ import annotations

import numpy as np
import pytest

from kinema.core.errors import KinemaError
from kinema.data.shuffle import Epochs, LocalShuffle, shuffle_quality

LENGTHS = (150, 1, 64, 65, 300, 20)


@pytest.mark.parametrize("chunk", [1, 64, 1000])
@pytest.mark.parametrize("spread", [1, 50, 10_000])
def test_every_window_comes_once(chunk: int, spread: int) -> None:
    order = LocalShuffle(LENGTHS, spread=spread, chunk=chunk)
    first, second = (order(np.random.default_rng(seed)) for seed in (0, 1))
    assert sorted(first) == list(range(600))
    assert not np.array_equal(first, second)
    assert np.array_equal(order(np.random.default_rng(0)), first)


def test_neighbours_in_a_chunk_come_within_the_spread() -> None:
    order = LocalShuffle([1000] * 20, spread=300, chunk=50)(np.random.default_rng(0))
    place = np.argsort(order).reshape(-1, 50)
    # A window is delayed by less than `spread`: in its chunk, places differ by less than spread and the chunk, and the
    # windows that came between.
    assert (place.max(axis=1) - place.min(axis=1)).max() < 300 + 2 * 50
    starts = place.min(axis=1)
    assert abs(np.corrcoef(np.arange(len(starts)), starts)[0, 1]) < 0.2, "the chunks are in no order"


def test_with_spread_one_the_chunks_stay_whole() -> None:
    order = LocalShuffle([10, 10], spread=1, chunk=5)(np.random.default_rng(3))
    assert all((np.diff(piece) == 1).all() and piece[0] % 5 == 0 for piece in order.reshape(4, 5))


def test_quality_by_hand() -> None:
    # Two episodes of 2; a batch of 2 misses one with C(2, 2) / C(4, 2) = 1/6: 5/3 different ones are expected.
    assert shuffle_quality(np.array([0, 1, 2, 3]), [2, 2], 2) == pytest.approx(1 / (5 / 3))
    assert shuffle_quality(np.array([0, 2, 1, 3]), [2, 2], 2) == pytest.approx(2 / (5 / 3))
    with pytest.raises(KinemaError, match="an order of 3 in batches of 2: there are 4 windows"):
        shuffle_quality(np.array([0, 1, 2]), [2, 2], 2)


def test_quality_of_full_and_local_shuffles() -> None:
    lengths = [100] * 200
    rng = np.random.default_rng(0)
    assert shuffle_quality(rng.permutation(20_000), lengths, 64) == pytest.approx(1, abs=0.01)
    found = [
        shuffle_quality(LocalShuffle(lengths, spread=spread, chunk=50)(rng), lengths, 64) for spread in (1, 1000, 5000)
    ]
    assert found[0] < 0.1 < 0.3 < found[1] < 0.5 < 0.7 < found[2] < 0.95


def test_epochs_of_a_local_order() -> None:
    draws = Epochs(600, batch_size=7, seed=1, order=LocalShuffle(LENGTHS, spread=100))
    seen = np.concatenate([draws(step) for step in range(600)]).reshape(7, 600)
    assert all(sorted(epoch) == list(range(600)) for epoch in seen)
    assert np.array_equal(Epochs(600, batch_size=7, seed=1, order=LocalShuffle(LENGTHS, spread=100))(311), draws(311))


def test_errors() -> None:
    with pytest.raises(KinemaError, match="spread 0, chunk 4"):
        LocalShuffle([3], spread=0, chunk=4)
    with pytest.raises(KinemaError, match="0 windows"):
        Epochs(0, batch_size=1, seed=0)
