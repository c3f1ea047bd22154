import numpy as np
import pytest
from scipy import stats

from kinema.core.errors import KinemaError
from kinema.evaluation.comparison import barnard, boschloo, fisher
from kinema.evaluation.intervals import Rate
from kinema.evaluation.power import (
    detectable_difference,
    power,
    trials_for_half_width,
    trials_per_arm,
    trials_without_failure,
)
from kinema.evaluation.rejection import rejected

APPROXIMATE = {  # rates -> pooled z, unpooled z, arcsine (two-sided), pooled z (one-sided)
    (0.90, 0.80): (199, 197, 195, 157),
    (0.85, 0.65): (73, 70, 71, 57),
    (0.90, 0.70): (62, 59, 60, 49),
    (0.80, 0.60): (82, 79, 81, 64),
    (0.90, 0.60): (32, 29, 30, 25),
    (0.90, 0.50): (20, 17, 19, 16),
    (0.95, 0.90): (435, 432, 424, 343),
    (0.60, 0.50): (388, 385, 388, 305),
}
EXACT = {  # rates -> Barnard one-sided, Fisher one-sided, Fisher two-sided
    (0.85, 0.65): (57, 65, 81),
    (0.90, 0.70): (49, 56, 69),
    (0.90, 0.60): (26, 30, 36),
    (0.90, 0.50): (17, 19, 23),
}


@pytest.mark.parametrize("rates", APPROXIMATE)
def test_trials_by_approximation(rates):
    two_sided = tuple(trials_per_arm(*rates, formula=f) for f in ("pooled-z", "unpooled-z", "arcsine"))
    assert (*two_sided, trials_per_arm(*rates, formula="pooled-z", alternative="greater")) == APPROXIMATE[rates]


@pytest.mark.parametrize("rates", EXACT)
def test_trials_by_enumeration(rates):
    assert EXACT[rates] == (
        trials_per_arm(*rates, formula="barnard", alternative="greater"),
        trials_per_arm(*rates, formula="fisher", alternative="greater"),
        trials_per_arm(*rates, formula="fisher"),
    )


@pytest.mark.parametrize("formula", ["pooled-z", "unpooled-z", "arcsine"])
def test_power_and_trials_agree(formula):
    n = trials_per_arm(0.85, 0.65, formula=formula)
    assert power(0.85, 0.65, n - 1, formula=formula) < 0.8 <= power(0.85, 0.65, n, formula=formula)


def test_exact_power_goldens():
    assert power(0.85, 0.65, 20, formula="fisher", alternative="greater") == pytest.approx(0.311, abs=5e-4)
    assert power(0.85, 0.65, 20, formula="fisher") == pytest.approx(0.209, abs=6e-4)
    assert power(0.65, 0.85, 20, formula="fisher", alternative="less") == pytest.approx(0.311, abs=5e-4)


@pytest.mark.parametrize("formula", ["fisher", "barnard", "boschloo"])
def test_simulated_power_is_within_a_point_of_exact(formula):
    rng, n = np.random.default_rng(0), 40
    region = rejected(n, formula=formula, alpha=0.05, alternative="two-sided")
    hits = region[rng.binomial(n, 0.85, 100_000), rng.binomial(n, 0.6, 100_000)].mean()
    assert hits == pytest.approx(power(0.85, 0.6, n, formula=formula), abs=0.01)


@pytest.mark.parametrize(("formula", "test"), [("fisher", fisher), ("barnard", barnard), ("boschloo", boschloo)])
@pytest.mark.parametrize("alternative", ["greater", "two-sided"])
def test_what_is_rejected_is_what_the_test_calls_significant(formula, test, alternative):
    region = rejected(6, formula=formula, alpha=0.05, alternative=alternative)
    for a in range(7):
        for b in range(7):
            p = test(Rate(a, 6), Rate(b, 6), alternative)
            assert region[a, b] == (round(p, 9) <= 0.05), (a, b, p)


@pytest.mark.parametrize("formula", ["fisher", "barnard", "boschloo"])
def test_the_size_is_at_most_alpha_for_every_common_rate(formula):
    p = np.linspace(0, 1, 501)
    for n in (10, 25, 60):
        region = rejected(n, formula=formula, alpha=0.05, alternative="two-sided")
        outcomes = stats.binom.pmf(np.arange(n + 1), n, p[:, None])
        assert (outcomes @ region * outcomes).sum(axis=1).max() <= 0.05 + 1e-5


def test_barnard_rejects_most_of_what_fisher_does():
    for n in (10, 20, 40):
        stricter = rejected(n, formula="fisher", alpha=0.05, alternative="greater")
        wider = rejected(n, formula="barnard", alpha=0.05, alternative="greater")
        assert (stricter & wider).sum() >= 0.97 * stricter.sum()
        assert wider.sum() > stricter.sum()


def test_detectable_difference_and_power_agree():
    d = detectable_difference(50, formula="barnard")
    assert power((1 + d) / 2, (1 - d) / 2, 50, formula="barnard") >= 0.8
    assert power((0.999 + d) / 2, (1.001 - d) / 2, 50, formula="barnard") < 0.8
    assert detectable_difference(200, formula="pooled-z") == pytest.approx(2.8016 * (0.5 / 200) ** 0.5, abs=0.002)
    assert detectable_difference(50, formula="pooled-z", alternative="less") < detectable_difference(
        50, formula="pooled-z"
    )


def test_sure_policies():
    assert power(1.0, 0.0, 5, formula="unpooled-z") == 1.0
    assert power(1.0, 0.0, 3, formula="fisher", alternative="greater") == 1.0


def test_interval_widths_and_rows_without_failure():
    assert (trials_for_half_width(0.10), trials_for_half_width(0.05)) == (97, 385)
    assert [trials_without_failure(rate) for rate in (0.90, 0.95, 0.99)] == [29, 59, 299]


def test_refusals():
    with pytest.raises(KinemaError, match=r"a rate of 85; expected a fraction from 0 to 1"):
        trials_per_arm(85, 0.65, formula="barnard")
    with pytest.raises(KinemaError, match="no number of attempts"):
        trials_per_arm(0.6, 0.8, formula="pooled-z", alternative="greater")
    with pytest.raises(KinemaError, match=r"unknown formula 'barnad'; did you mean 'barnard'\?"):
        power(0.8, 0.6, 20, formula="barnad")
    with pytest.raises(KinemaError, match="unknown exact test 'arcsine'"):
        rejected(20, formula="arcsine", alpha=0.05, alternative="greater")
    with pytest.raises(KinemaError, match="0 attempts per arm"):
        power(0.8, 0.6, 0, formula="fisher")
    with pytest.raises(KinemaError, match="too few attempts to find any difference"):
        detectable_difference(2, formula="fisher")
    with pytest.raises(KinemaError, match="more than 2000 attempts"):
        trials_per_arm(0.500, 0.495, formula="fisher")
    with pytest.raises(KinemaError, match="power 80: expected a number between 0 and 1"):
        trials_per_arm(0.8, 0.6, formula="fisher", power=80)
