import numpy as np
import pytest
from scipy import stats

from kinema.core.errors import KinemaError
from kinema.evaluation.comparison import (
    Comparison,
    barnard,
    boschloo,
    difference_interval,
    fisher,
    paired,
)
from kinema.evaluation.intervals import Rate


def test_paired_counts_each_cell():
    table = paired([True, True, False, False, True], [True, False, True, False, False])
    assert table == Comparison(both=1, only_first=2, only_second=1, neither=1)
    assert table.n == 5
    assert table.difference == pytest.approx(1 / 5)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [(5, 0, 2 / 32), (0, 6, 2 / 64), (4, 1, 12 / 32), (3, 3, 1.0), (0, 0, 1.0), (10, 2, 158 / 4096)],
)
def test_exact_mcnemar_by_hand(only_first, only_second, p):
    """(10, 2): 2 * (C(12,0) + C(12,1) + C(12,2)) / 2^12 = 2 * 79 / 4096."""
    assert Comparison(both=7, only_first=only_first, only_second=only_second, neither=3).p_value == pytest.approx(p)


def test_one_sided_mcnemar_by_hand():
    table = Comparison(both=7, only_first=10, only_second=2, neither=3)
    assert table.mcnemar("greater") == pytest.approx(79 / 4096)
    assert table.mcnemar("less") == pytest.approx(1 - (1 + 12) / 4096)
    with pytest.raises(KinemaError, match=r"unknown alternative 'grater'; did you mean 'greater'\?"):
        table.mcnemar("grater")


def test_pairs_must_match():
    with pytest.raises(KinemaError, match="cannot pair 2 with 1"):
        paired([True, False], [True])


P_VALUES = [
    (fisher, (17, 20), (13, 20), 0.1367, 0.2733),
    (barnard, (17, 20), (13, 20), 0.0810, 0.1620),
    (boschloo, (17, 20), (13, 20), 0.0810, 0.1620),
    (fisher, (43, 50), (33, 50), 0.0169, 0.0338),
    (fisher, (85, 100), (65, 100), 0.0009, 0.0017),
    (fisher, (18, 20), (12, 20), 0.0324, 0.0648),
    (barnard, (18, 20), (12, 20), 0.0193, 0.0386),
    (fisher, (9, 10), (6, 10), 0.1517, 0.3034),
    (fisher, (3, 3), (0, 3), 0.05, 0.1),
    (barnard, (3, 3), (0, 3), 1 / 64, 2 / 64),
]


@pytest.mark.parametrize(("test", "first", "second", "one", "two"), P_VALUES)
def test_p_values(test, first, second, one, two):
    """3/3 against 0/3: Fisher 1/C(6,3) = .05; Barnard the largest p^3 (1-p)^3, at one half, 1/64."""
    first, second = Rate(*first), Rate(*second)
    assert test(first, second, "greater") == pytest.approx(one, abs=5e-5)
    assert test(first, second) == pytest.approx(two, abs=5e-5)
    assert test(second, first, "less") == pytest.approx(one, abs=5e-5)


def test_groups_are_columns_for_scipy():
    """Transposed, scipy's Barnard holds the wrong sums fixed and says something else."""
    mine = barnard(Rate(18, 20), Rate(7, 12), "greater")
    right = stats.barnard_exact([[18, 7], [2, 5]], "greater", n=128).pvalue
    wrong = stats.barnard_exact([[18, 2], [7, 5]], "greater", n=128).pvalue
    assert mine == right
    assert abs(wrong - right) > 1e-3


def test_barnard_is_the_largest_chance_over_common_rates():
    """By enumeration at unequal n: all tables whose pooled z is at least the observed, over a fine grid of rates."""
    a, m, b, n = 7, 9, 5, 14
    x, y = np.indices((m + 1, n + 1))
    mean = (x + y) / (m + n)
    spread = np.sqrt(mean * (1 - mean) * (1 / m + 1 / n))
    z = np.divide(x / m - y / n, spread, out=np.zeros(x.shape), where=spread > 0)
    p = np.linspace(0, 1, 4001)
    chance = sum(
        stats.binom.pmf(i, m, p) * stats.binom.pmf(j, n, p)
        for i, j in zip(*np.nonzero(z >= z[a, b] - 1e-12), strict=True)
    )
    assert barnard(Rate(a, m), Rate(b, n), "greater") == pytest.approx(chance.max(), abs=1e-4)


def test_all_or_nothing_on_both_sides_says_nothing():
    for test in (fisher, barnard, boschloo):
        assert test(Rate(20, 20), Rate(20, 20), "greater") == pytest.approx(1.0)


def test_boschloo_is_never_above_fisher():
    for a in range(7):
        for b in range(9):
            first, second = Rate(a, 6), Rate(b, 8)
            assert boschloo(first, second, "greater") <= fisher(first, second, "greater") + 1e-9


def test_newcombe_golden():
    """56/70 against 48/80: Newcombe 1998, table II, example (a), method 10: .0524 to .3339."""
    assert difference_interval(Rate(56, 70), Rate(48, 80)) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_paired_interval_by_hand():
    """(b, c, n) = (10, 2, 30): d = 8/32, variance (13/32 - 1/16)/32."""
    table = Comparison(both=12, only_first=10, only_second=2, neither=6)
    half = 1.959964 * ((13 / 32 - 1 / 16) / 32) ** 0.5
    assert table.interval() == pytest.approx((0.25 - half, 0.25 + half), abs=1e-6)
    low, high = Comparison(both=10, only_first=0, only_second=0, neither=10).interval()
    assert low == pytest.approx(-high)
    assert high > 0.05


def test_paired_interval_covers():
    """Exact coverage at n = 25: the first alone with chance .25, the second alone .1, so a true difference of .15."""
    n, chances, covered = 25, (0.25, 0.1, 0.65), 0.0
    for b in range(n + 1):
        for c in range(n + 1 - b):
            low, high = Comparison(both=n - b - c, only_first=b, only_second=c, neither=0).interval()
            covered += stats.multinomial.pmf((b, c, n - b - c), n, chances) * (low <= 0.15 <= high)
    assert 0.94 < covered < 0.98


def test_paired_bootstrap_is_about_the_same_and_repeats():
    table = Comparison(both=60, only_first=30, only_second=15, neither=15)
    low, high = table.bootstrap(rng=np.random.default_rng(0))
    spread = (45 / 120 - (15 / 120) ** 2) ** 0.5 / 120**0.5
    assert (low, high) == pytest.approx((0.125 - 1.96 * spread, 0.125 + 1.96 * spread), abs=0.012)
    assert (low, high) == table.bootstrap(rng=np.random.default_rng(0))


def test_bootstrap_refuses_pairs_that_all_agree():
    with pytest.raises(KinemaError, match="all 20 pairs agree"):
        Comparison(both=20, only_first=0, only_second=0, neither=0).bootstrap(rng=np.random.default_rng(0))
    with pytest.raises(KinemaError, match=r"confidence 95: expected a number between 0 and 1"):
        Comparison(both=20, only_first=2, only_second=0, neither=0).interval(95)
