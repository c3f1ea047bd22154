import math

import numpy as np
import pytest
from scipy import stats

from kinema.core.errors import KinemaError
from kinema.evaluation.intervals import MeanRate, Rate, percent, rate_entry

WILSON = {
    (17, 20): (0.6396, 0.9476),
    (13, 20): (0.4329, 0.8188),
    (9, 10): (0.5958, 0.9821),
    (8, 10): (0.4902, 0.9433),
    (10, 10): (0.7225, 1),
    (20, 20): (0.8389, 1),
    (18, 20): (0.6990, 0.9721),
    (19, 20): (0.7639, 0.9911),
    (45, 50): (0.7864, 0.9565),
    (50, 50): (0.9287, 1),
    (80, 100): (0.7112, 0.8666),
    (90, 100): (0.8256, 0.9448),
    (0, 20): (0, 0.1611),
}


@pytest.mark.parametrize("counts", WILSON)
def test_wilson_goldens(counts):
    assert Rate(*counts).interval() == pytest.approx(WILSON[counts], abs=5e-5)
    assert MeanRate((Rate(*counts),)).interval() == pytest.approx(Rate(*counts).interval(), abs=1e-12)


def test_rate_reads_well():
    assert str(Rate(20, 25)) == "20/25 = 80 % [61, 91]"
    assert str(Rate(0, 20)) == "0/20 = 0 % [0, 16]"
    assert str(MeanRate((Rate(20, 25), Rate(25, 25)))) == "90 % [79, 96] mean of 2 tasks (45/50)"


@pytest.mark.parametrize("counts", [(1, 0), (-1, 5), (6, 5)])
def test_impossible_rates_are_named(counts):
    with pytest.raises(KinemaError, match=f"{counts[0]} successes out of {counts[1]}"):
        Rate(*counts)


def test_mean_of_no_rates():
    with pytest.raises(KinemaError, match="no rates"):
        MeanRate(())


def test_mean_of_equal_tasks_is_the_pooled_wilson_interval():
    mean = MeanRate((Rate(9, 10), Rate(4, 10), Rate(10, 10)))
    assert mean.rate == pytest.approx(23 / 30)
    assert mean.interval() == pytest.approx(Rate(23, 30).interval(), abs=1e-12)


def test_mean_of_unequal_tasks_counts_tasks_not_attempts():
    mean = MeanRate((Rate(1, 2), Rate(100, 100)))
    assert mean.rate == pytest.approx(0.75)
    assert (mean.successes, mean.n) == (101, 102)
    assert mean.interval() == pytest.approx(Rate(3, 4).interval(), abs=1e-12)


def test_mean_interval_covers_at_least_95_percent():
    """Exact coverage for two tasks with p = 0.5 and 0.95 at n = 10 and 14, by enumerating all outcomes."""
    probabilities, counts = (0.5, 0.95), (10, 14)
    covered = 0.0
    for a in range(counts[0] + 1):
        for b in range(counts[1] + 1):
            low, high = MeanRate((Rate(a, counts[0]), Rate(b, counts[1]))).interval()
            if low <= math.fsum(probabilities) / 2 <= high:
                covered += stats.binom.pmf(a, counts[0], probabilities[0]) * stats.binom.pmf(
                    b, counts[1], probabilities[1]
                )
    assert covered > 0.95


def test_percent_never_rounds_to_certainty():
    assert [percent(x) for x in (0, 0.0004, 0.004, 0.16, 0.5, 0.996, 0.9999, 1)] == [
        "0", "<0.1", "0.4", "16", "50", "99.6", ">99.9", "100",
    ]  # fmt: skip


def test_entry_carries_counts_and_interval():
    entry = rate_entry(Rate(17, 20))
    assert {key: round(value, 4) for key, value in entry.items()} == {
        "rate": 0.85, "successes": 17, "n": 20, "low": 0.6396, "high": 0.9476,
    }  # fmt: skip


def test_clopper_pearson_and_jeffreys():
    assert Rate(17, 20).interval(method="clopper-pearson") == pytest.approx((0.6211, 0.9679), abs=5e-5)
    low, high = Rate(17, 20).interval(method="jeffreys")
    assert stats.beta.cdf(low, 17.5, 3.5) == pytest.approx(0.025)
    assert stats.beta.cdf(high, 17.5, 3.5) == pytest.approx(0.975)
    assert Rate(0, 20).interval(method="jeffreys")[0] == 0
    assert Rate(20, 20).interval(method="jeffreys")[1] == 1
    with pytest.raises(KinemaError, match=r"unknown interval 'wald'"):
        Rate(1, 2).interval(method="wald")
    with pytest.raises(KinemaError, match="confidence 95: expected"):
        Rate(1, 2).interval(95)


def coverage(n, method, rates):
    """Return the exact chance, for each true rate, that the interval holds it."""
    ends = [Rate(k, n).interval(method=method) for k in range(n + 1)]
    inside = np.array([(low <= rates) & (rates <= high) for low, high in ends])
    return (stats.binom.pmf(np.arange(n + 1)[:, None], n, rates) * inside).sum(axis=0)


@pytest.mark.parametrize("n", [10, 20, 50])
def test_exact_coverage(n):
    rates = np.linspace(0.001, 0.999, 999)
    middle = (rates >= 0.1) & (rates <= 0.9)
    wilson = coverage(n, "wilson", rates)
    assert wilson.mean() > 0.95
    assert wilson[middle].min() > 0.915
    assert wilson.min() > 0.84  # just beside 0 and 1 every approximate interval dips
    assert coverage(n, "clopper-pearson", rates).min() >= 0.95
    assert 0.945 < coverage(n, "jeffreys", rates).mean() < 0.955


def test_the_textbook_interval_does_not_cover():
    """p -/+ 1.96 sqrt(p (1 - p) / n), at n = 20 and p = .95, holds the truth 64 % of the time; its end is past 1."""
    k = np.arange(21)
    half = 1.96 * np.sqrt(k / 20 * (1 - k / 20) / 20)
    assert (k / 20 + half)[17] > 1.006
    inside = np.abs(k / 20 - 0.95) <= half
    assert stats.binom.pmf(k, 20, 0.95)[inside].sum() < 0.65
