"""Shares of a mixture: hand-computed, published and realised."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, chisquare

from kinema.core.errors import KinemaError
from kinema.data.oxe import MAGIC_SOUP
from kinema.data.shares import SharedDraws, counts, named_weights, shares

SIZES = np.random.default_rng(5).integers(200, 40_000, len(MAGIC_SOUP))
"""Numbers of frames that stand for those of the soup's datasets."""


def test_temperature() -> None:
    for alpha, expected in (
        (0.43, (0.6624, 0.2461, 0.0914)),
        (0.5, (0.7061, 0.2233, 0.0706)),
        (1, (0.9009, 0.0901, 0.009)),
    ):
        assert shares((1000, 100, 10), alpha=alpha).round(4).tolist() == pytest.approx(expected)
    assert shares((1000, 100, 10)).tolist() == shares((1000, 100, 10), alpha=1.0).tolist()
    assert shares((1000, 100, 10), alpha=0.0) == pytest.approx([1 / 3] * 3)


def test_weights_multiply_or_replace() -> None:
    assert shares((100, 300), weights=(3, 1), weights_mean="multiply").tolist() == [0.5, 0.5]
    assert shares((100, 300), weights=(3, 1), weights_mean="replace").tolist() == [0.75, 0.25]


def test_the_soup_has_25_datasets_and_is_looked_up_by_name() -> None:
    assert len(MAGIC_SOUP) == 25 and sum(MAGIC_SOUP.values()) == pytest.approx(30.7749758514)
    two = shares((1000, 3000), names=("bc_z", "viola"), weights="oxe-magic-soup")
    assert two.tolist() == [200 / 6200, 6000 / 6200]
    with pytest.raises(KinemaError, match="has no dataset 'violla'; did you mean 'viola'"):
        named_weights("oxe-magic-soup", ("violla",))
    with pytest.raises(KinemaError, match="unknown weights 'oxe-magic-soap'; did you mean 'oxe-magic-soup'"):
        named_weights("oxe-magic-soap", ("viola",))
    with pytest.raises(KinemaError, match="they do not replace them"):
        shares((5,), names=("viola",), weights="oxe-magic-soup", weights_mean="replace")


def test_what_is_not_said_or_said_twice_is_an_error() -> None:
    for options, message in (
        ({"weights": (1, 2)}, "say whether they multiply"),
        ({"weights": (1, 2), "weights_mean": "multiplies"}, "did you mean 'multiply'"),
        ({"weights": (1, 2, 3), "weights_mean": "replace"}, "expected 2 above 0"),
        ({"weights": (1, 0), "weights_mean": "replace"}, "leave out what gets 0"),
        ({"weights": (1, 2), "weights_mean": "replace", "alpha": 0.5}, "give one of them"),
        ({"weights_mean": "replace"}, "there are no weights"),
        ({"alpha": 1.5}, "alpha 1.5"),
    ):
        with pytest.raises(KinemaError, match=message):
            shares((10, 20), **options)
    with pytest.raises(KinemaError, match="at least 1 of each"):
        shares((10, 0))


@given(
    weights=st.lists(st.floats(0.001, 1000), min_size=1, max_size=32),
    draws=st.integers(0, 10**9),
    more=st.integers(0, 200),
)
@settings(max_examples=200, deadline=None)
def test_counts_never_fall_and_stay_near_the_share(weights: list[float], draws: int, more: int) -> None:
    share = np.array(weights) / sum(weights)
    now, later = counts(share, draws), counts(share, draws + more)
    assert now.sum() == draws and later.sum() == draws + more and (later >= now).all()
    assert np.abs(now - share * draws).max() <= 0.5 * np.ceil(np.log2(max(2, len(share)))) + 1e-3


def test_whole_shares_are_the_same_in_every_batch_and_remainders_are_carried() -> None:
    whole = np.array([0.5, 0.25, 0.125, 0.125])
    steps = [counts(whole, 64 * (k + 1)) - counts(whole, 64 * k) for k in range(50)]
    assert {tuple(step) for step in steps} == {(32, 16, 8, 8)}
    thirds = [counts(np.full(3, 1 / 3), 4 * (k + 1)) - counts(np.full(3, 1 / 3), 4 * k) for k in range(6)]
    assert [int(step.sum()) for step in thirds] == [4] * 6
    assert np.sum(thirds[:3], axis=0).tolist() == np.sum(thirds[3:], axis=0).tolist() == [4, 4, 4]
    rare = [int(counts(np.array([0.99, 0.01]), 20 * k)[1]) for k in range(11)]
    assert rare == [0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2], "one in five batches of 20"


def owners(draws: SharedDraws, steps: int) -> np.ndarray:
    first = np.concatenate([[0], np.cumsum(SIZES)])
    return np.searchsorted(first, np.concatenate([draws(k) for k in range(steps)]), side="right") - 1


def test_realised_frequencies_of_the_soup() -> None:
    share = shares(SIZES, weights=list(MAGIC_SOUP.values()), weights_mean="multiply")
    million = counts(share, 10**6) / 10**6
    assert np.abs(million / share - 1).max() < 0.005, "of each dataset's own share, the rarest included"
    draws = SharedDraws(SIZES, share, batch_size=1000, seed=3)
    found = np.bincount(owners(draws, 100), minlength=25)
    assert found.tolist() == counts(share, 10**5).tolist()
    assert chisquare(found, share * 10**5).statistic < chi2.ppf(0.999, 24)


def test_the_draw_of_a_step_depends_on_seed_and_step_alone() -> None:
    share = shares((30, 50, 20), alpha=0.5)
    straight = SharedDraws((30, 50, 20), share, batch_size=7, seed=1)
    whole = [straight(k) for k in range(40)]
    jumping = SharedDraws((30, 50, 20), share, batch_size=7, seed=1)
    for step in (39, 3, 17, 0, 25):
        assert np.array_equal(jumping(step), whole[step])
    assert not np.array_equal(SharedDraws((30, 50, 20), share, batch_size=7, seed=2)(3), whole[3])
    with pytest.raises(KinemaError, match="step -1"):
        straight(-1)


def test_within_a_dataset_every_window_comes_equally_often_and_in_a_new_order() -> None:
    draws = SharedDraws((10, 10), np.array([0.5, 0.5]), batch_size=20, seed=0)
    batches = [draws(k) for k in range(30)]
    assert all(sorted(batch) == list(range(20)) for batch in batches)
    assert len({tuple(batch) for batch in batches}) == 30
    small = SharedDraws((10, 10), np.array([0.5, 0.5]), batch_size=2, seed=0)
    orders = [[int(i) for k in range(10) for i in small(k) if part * 10 <= i < part * 10 + 10] for part in (0, 1)]
    assert sorted(orders[0]) == list(range(10)) and orders[0] != [i - 10 for i in orders[1]], "orders of their own"
    places = np.zeros((10, 10))
    for seed in range(2000):
        first = SharedDraws((10, 10), np.array([0.5, 0.5]), batch_size=2, seed=seed)
        for window, place in itertools.product([min(first(0))], [0]):
            places[place, window] += 1
    assert chisquare(places[0]).pvalue > 1e-3, "every window is equally likely to be the first"
