import numpy as np
import pytest

from kinema.core.errors import KinemaError
from kinema.evaluation.clusters import cluster_bootstrap
from kinema.evaluation.intervals import MeanRate, Rate


def test_wider_than_an_interval_about_these_tasks_when_tasks_differ():
    """20 tasks, half of them solved 18/20 and half 6/20: the spread is of tasks, not of attempts."""
    values = [0.9] * 10 + [0.3] * 10
    low, high = cluster_bootstrap(values, rng=np.random.default_rng(0))
    these = MeanRate(tuple(Rate(round(20 * v), 20) for v in values)).interval()
    assert high - low > 2 * (these[1] - these[0])
    assert (low + high) / 2 == pytest.approx(0.6, abs=0.01)
    # the mean of m values of spread s: 1.96 s / sqrt(m - 1); these means lie .03 apart
    assert (high - low) / 2 == pytest.approx(1.96 * 0.3 / 19**0.5, abs=0.015)


def test_coverage_over_tasks():
    """Tasks of rates Beta(4, 1), mean .8, 20 attempts each: 20 tasks cover about 93 %, pooled attempts far less."""
    rng, hits, naive = np.random.default_rng(1), 0, 0
    for _ in range(400):
        counts = rng.binomial(20, rng.beta(4, 1, 20))
        low, high = cluster_bootstrap(counts / 20, rng=rng, resamples=800)
        hits += low <= 0.8 <= high
        ends = Rate(int(counts.sum()), 400).interval()
        naive += ends[0] <= 0.8 <= ends[1]
    assert 0.90 < hits / 400 < 0.97
    assert naive / 400 < 0.75


def test_refusals():
    rng = np.random.default_rng(0)
    with pytest.raises(KinemaError, match="9 tasks are too few"):
        cluster_bootstrap([0.5] * 9, rng=rng)
    with pytest.raises(KinemaError, match="one finite value a task"):
        cluster_bootstrap([float("nan")] * 12, rng=rng)
