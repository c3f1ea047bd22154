import numpy as np
import pytest
from scipy import stats

from kinema.core.errors import KinemaError
from kinema.evaluation.sim_to_real import mean_maximum_rank_violation, pearson, regression, spearman

REAL, SIM = (0.2, 0.5, 0.6, 0.9), (0.1, 0.6, 0.5, 0.95)


def test_goldens():
    r, low, high = pearson(SIM, REAL)
    assert r == pytest.approx(0.96582, abs=5e-6)
    half = 1.959964 / (4 - 3) ** 0.5
    assert (low, high) == pytest.approx((np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half)), abs=1e-6)
    assert mean_maximum_rank_violation(SIM, REAL) == pytest.approx(0.05)
    assert mean_maximum_rank_violation(SIM[::-1], REAL) == pytest.approx(0.55)
    assert mean_maximum_rank_violation([r / 2 for r in REAL], REAL) == 0


def test_ties():
    """Two equal simulated rates, real .2 and .8: only the better one is charged .6, or both are."""
    assert mean_maximum_rank_violation((0.5, 0.5), (0.2, 0.8)) == pytest.approx(0.30)
    assert mean_maximum_rank_violation((0.5, 0.5), (0.2, 0.8), ties="symmetric") == pytest.approx(0.60)
    assert mean_maximum_rank_violation((0.5, 0.5), (0.4, 0.4), ties="symmetric") == 0
    with pytest.raises(KinemaError, match="unknown tie rule 'strict'"):
        mean_maximum_rank_violation(SIM, REAL, ties="strict")


def test_invariant_to_the_order_of_policies_and_to_monotone_changes_of_simulation():
    rng = np.random.default_rng(0)
    real, sim = rng.random(7), rng.random(7)
    order = rng.permutation(7)
    for ties in ("simpler", "symmetric"):
        value = mean_maximum_rank_violation(sim, real, ties=ties)
        assert mean_maximum_rank_violation(sim[order], real[order], ties=ties) == pytest.approx(value)
        assert mean_maximum_rank_violation(sim**3, real, ties=ties) == pytest.approx(value)


def test_ranks_and_line():
    assert spearman(SIM, REAL) == pytest.approx(0.8)
    line = regression(SIM, REAL)
    fit, covariance = np.polyfit(SIM, REAL, 1, cov=True)
    half = stats.t.ppf(0.975, 2) * covariance[0, 0] ** 0.5
    assert (line.slope, line.intercept) == pytest.approx(tuple(fit))
    assert (line.slope_low, line.slope_high) == pytest.approx((fit[0] - half, fit[0] + half))


def test_refusals():
    with pytest.raises(KinemaError, match="3 policies in simulation but 4 on the robot"):
        pearson(SIM[:3], REAL)
    with pytest.raises(KinemaError, match="3 policies, expected at least 4"):
        regression(SIM[:3], REAL[:3])
    with pytest.raises(KinemaError, match="a rate of 10 in simulation; expected fractions"):
        spearman((10, 60, 95), (0.1, 0.6, 0.9))
    with pytest.raises(KinemaError, match=r"all policies have the rate 0\.5 in simulation"):
        pearson((0.5,) * 4, REAL)
