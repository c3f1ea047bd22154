"""What holds for every sequential test, and why looking again and again with an ordinary test does not."""

import numpy as np
import pytest

from kinema.core.errors import KinemaError
from kinema.evaluation.comparison import Comparison
from kinema.evaluation.rejection import rejected
from kinema.evaluation.sequential.base import (
    Decision,
    SequentialTest,
    characteristics,
    first_decision,
    independent,
)
from kinema.evaluation.sequential.e_process import EProcess
from kinema.evaluation.sequential.lai import Lai
from kinema.evaluation.sequential.step import Step

TESTS = (Step, Lai, EProcess)


class Peeking(SequentialTest):
    """The control that must fail: Fisher's test after every pair, stopped at the first p below alpha."""

    discordant = False

    def favours_first(self, n):
        return rejected(n, formula="fisher", alpha=self.level - 1e-9, alternative="greater")


@pytest.mark.parametrize(("n_max", "false"), [(20, 0.0773), (50, 0.1293), (100, 0.1718)])
def test_peeking_makes_false_claims(n_max, false):
    found = characteristics(Peeking(n_max=n_max, alternative="greater"), independent(0.5, 0.5))
    assert found.first == pytest.approx(false, abs=5e-5)


@pytest.mark.parametrize("kind", TESTS)
@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_equal_policies_are_told_apart_with_at_most_alpha(kind, alternative):
    test = kind(n_max=60, alternative=alternative)
    for p in np.linspace(0.02, 0.98, 33):
        found = characteristics(test, independent(p, p))
        assert found.first + found.second <= 0.05
        assert (found.first > 0) == (alternative != "less")
        assert (found.second > 0) == (alternative != "greater")


@pytest.mark.parametrize("kind", TESTS)
def test_a_worse_policy_is_called_better_even_less_often(kind):
    test = kind(n_max=60, alternative="greater")
    equal = characteristics(test, independent(0.7, 0.7)).first
    assert characteristics(test, independent(0.65, 0.7)).first < equal


@pytest.mark.parametrize("kind", TESTS)
def test_shared_difficulty_errs_to_the_safe_side(kind):
    """Equal policies that mostly solve the same starts: (.6, .1, .1, .2) has rates of .7 and correlation .52."""
    found = characteristics(kind(n_max=60), (0.6, 0.1, 0.1, 0.2))
    assert found.first + found.second <= 0.05


@pytest.mark.parametrize("kind", [Lai, EProcess])
def test_tests_of_the_sign_hold_whatever_pairs_share(kind):
    """Policies that always differ, each better half of the time: as far from independent as can be."""
    found = characteristics(kind(n_max=60), (0.0, 0.5, 0.5, 0.0))
    assert found.first + found.second <= 0.05


@pytest.mark.parametrize("kind", TESTS)
def test_swapping_the_policies_swaps_the_decision(kind):
    test = kind(n_max=40)
    rng = np.random.default_rng(0)
    for _ in range(20):
        pairs = rng.random((40, 2)) < (0.9, 0.4)
        decision, n = first_decision(test, pairs)
        swapped = {Decision.FIRST: Decision.SECOND, Decision.SECOND: Decision.FIRST}.get(decision, decision)
        assert first_decision(test, pairs[:, ::-1]) == (swapped, n)


@pytest.mark.parametrize("kind", TESTS)
def test_simulation_agrees_with_the_exact_sums(kind):
    test = kind(n_max=40, alternative="greater")
    exact = characteristics(test, independent(0.85, 0.5))
    rng = np.random.default_rng(1)
    found = [first_decision(test, rng.random((40, 2)) < (0.85, 0.5)) for _ in range(400)]
    assert np.mean([decision is Decision.FIRST for decision, _ in found]) == pytest.approx(exact.first, abs=0.06)
    assert np.mean([n for _, n in found]) == pytest.approx(exact.pairs, abs=2)


@pytest.mark.parametrize("kind", TESTS)
def test_more_evidence_never_turns_a_decision(kind):
    region = kind(n_max=30).region(30)
    assert (np.diff(region, axis=0) >= 0).all()
    assert (np.diff(region, axis=1) <= 0).all()


def test_decide_reads_the_table():
    test = Step(n_max=200, alternative="greater")
    assert test.decide(Comparison(both=0, only_first=3, only_second=0, neither=0)) is Decision.UNDECIDED
    assert test.decide(Comparison(both=0, only_first=15, only_second=0, neither=0)) is Decision.FIRST
    assert test.decide(Comparison(both=0, only_first=0, only_second=15, neither=0)) is Decision.UNDECIDED
    assert Step(n_max=20).decide(Comparison(both=0, only_first=0, only_second=15, neither=0)) is Decision.SECOND
    assert test.decide(Comparison(both=0, only_first=0, only_second=0, neither=0)) is Decision.UNDECIDED


def test_refusals():
    with pytest.raises(KinemaError, match="21 pairs, but the test was planned for at most 20"):
        Lai(n_max=20).decide(Comparison(both=21, only_first=0, only_second=0, neither=0))
    with pytest.raises(KinemaError, match="n_max 0: expected at least one pair"):
        Lai(n_max=0)
    with pytest.raises(KinemaError, match="alpha 5: expected a number between 0 and 1"):
        EProcess(n_max=10, alpha=5)
    with pytest.raises(KinemaError, match="unknown alternative 'better'"):
        EProcess(n_max=10, alternative="better")
    with pytest.raises(KinemaError, match="expected four that sum to 1"):
        characteristics(EProcess(n_max=10), (0.5, 0.5, 0.5, 0.0))
    with pytest.raises(KinemaError, match="regions are made for at most 1000 pairs"):
        Step(n_max=1001)
