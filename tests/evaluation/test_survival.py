from pathlib import Path

import numpy as np
import pytest

from kinema.core.errors import KinemaError
from kinema.evaluation.survival import logrank, time_to_success

GOLDEN = Path(__file__).resolve().parents[1] / "goldens" / "survival.npz"


def test_by_hand():
    """Successes at 3, 5, 5, 8; broken off at 5 and 10: 1 - 1/6, then 1 - 2/5 of it, then 1 - 1/2 of that."""
    curve = time_to_success([3, 5, 5, 5, 8, 10], [True, True, True, False, True, False])
    assert curve.steps.tolist() == [3, 5, 8, 10]
    assert curve.remaining == pytest.approx([5 / 6, 5 / 6 * 3 / 5, 5 / 6 * 3 / 5 / 2, 5 / 6 * 3 / 5 / 2])
    assert curve.median == 5
    assert curve.at(2) == (1.0, 1.0, 1.0)
    assert curve.at(7)[0] == pytest.approx(0.5)


def test_equals_lifelines():
    with np.load(GOLDEN) as golden:
        curve = time_to_success(golden["steps"][0], golden["success"][0])
        keep = np.searchsorted(golden["times"], curve.steps)
        assert np.array_equal(golden["times"][keep], curve.steps)
        assert curve.remaining == pytest.approx(golden["remaining"][keep], abs=1e-12)
        some = (curve.remaining < 1) & (curve.remaining > 0)
        assert curve.low[some] == pytest.approx(golden["low"][keep][some], abs=1e-9)
        assert curve.high[some] == pytest.approx(golden["high"][keep][some], abs=1e-9)
        assert curve.median == float(golden["median"])
        arms = [(golden["steps"][i], golden["success"][i]) for i in (0, 1)]
        assert logrank(*arms) == pytest.approx(float(golden["logrank"]), abs=1e-9)


def test_ignoring_what_ran_out_of_time_would_flatter():
    """Of 100 trials with exponential times of mean 100, those over 60 are broken off: the true median is 69."""
    times = np.random.default_rng(0).exponential(100, 4000)
    stopped = np.minimum(times, 60)
    curve = time_to_success(stopped, times <= 60)
    assert curve.median is None
    assert curve.at(50)[0] == pytest.approx(np.exp(-0.5), abs=0.02)
    assert np.median(stopped[times <= 60]) < 30


def test_all_succeed_at_once():
    curve = time_to_success([4, 4], [True, True])
    assert (curve.remaining, curve.low, curve.high) == (0.0, 0.0, 1.0)


def test_refusals():
    with pytest.raises(KinemaError, match="3 times but 2 outcomes"):
        time_to_success([1, 2, 3], [True, False])
    with pytest.raises(KinemaError, match="none of 2 trials succeeded"):
        time_to_success([1, 2], [False, False])
    with pytest.raises(KinemaError, match="positive and finite"):
        time_to_success([0, 2], [True, False])
    with pytest.raises(KinemaError, match="nothing is known after 9 steps"):
        time_to_success([3, 9], [True, False]).at(12)
