from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from kinema.evaluation.power import power
from kinema.evaluation.sequential.base import Decision, characteristics, first_decision, independent
from kinema.evaluation.sequential.step import SLACK, Step, boundary

GOLDEN = Path(__file__).resolve().parents[2] / "goldens" / "step.npz"


@pytest.fixture(scope="module")
def step():
    return Step(n_max=200, alternative="greater")


def risk(test, rates):
    """Return the chance of a false decision by pair n, (n_max + 1, rates), by carrying all counts forward afresh."""
    mass = np.zeros((len(rates), test.n_max + 1, test.n_max + 1))
    mass[:, 0, 0] = 1
    p, spent = rates[:, None, None], np.zeros((test.n_max + 1, len(rates)))
    for n in range(1, test.n_max + 1):
        mass[:, 1:] = p * mass[:, :-1] + (1 - p) * mass[:, 1:]
        mass[:, 0] *= 1 - p[:, 0]
        mass[:, :, 1:] = p * mass[:, :, :-1] + (1 - p) * mass[:, :, 1:]
        mass[:, :, 0] *= 1 - p[:, 0]
        region = test.favours_first(n)
        spent[n] = spent[n - 1] + mass[:, : n + 1, : n + 1][:, region].sum(axis=1)
        mass[:, : n + 1, : n + 1][:, region] = 0
    return spent


@pytest.mark.parametrize("shape", [-1.0, 0.0, 0.7])
def test_the_risk_budget_is_kept_at_every_pair_and_rate(shape):
    test = Step(n_max=40, alternative="greater", shape=shape)
    spent = risk(test, np.linspace(0.01, 0.99, 99))
    budget = 0.05 * (np.arange(41) / 40) ** np.exp(shape)
    assert (spent.max(axis=1) <= budget + 1e-9).all()
    assert spent[-1].max() > 0.9 * 0.05
    half = spent[20].max()
    assert half == pytest.approx(budget[20], rel=0.15)


def test_little_of_the_risk_is_left_over(step):
    spent = risk(step, np.array([0.06, 0.3, 0.5, 0.8]))[-1]
    assert spent.max() <= 0.05
    assert spent.min() > 0.0475


def test_rates_between_those_looked_at_need_less_than_the_slack():
    for n_max in (7, 25):
        spent = risk(Step(n_max=n_max, alternative="greater"), np.linspace(0.001, 0.5, 1500))[-1]
        assert spent.max() <= 0.05 * (1 - SLACK / 2)


def test_more_successes_of_the_second_never_ask_for_fewer_of_the_first(step):
    assert all((np.diff(step.boundary[n, : n + 1]) >= 0).all() for n in range(1, 201))
    assert (step.boundary[3, :4] == 4).all()


def test_one_pair_in_hand():
    """n_max = 1 rejects 1:0 when its worst chance, 1/4 at one half, is within the level."""
    assert boundary(1, 0.26)[1].tolist() == [1, 2]
    assert boundary(1, 0.24)[1].tolist() == [2, 2]


def test_agrees_with_the_authors_own(step):
    """500 streams by sequentialized-barnard-tests 0.0.9, which tosses a coin at the edge and waits 8 pairs."""
    with np.load(GOLDEN) as golden:
        streams = np.unpackbits(golden["streams"]).reshape(500, 200, 2).astype(bool)
        theirs = golden["stopped"].astype(int)
    found = [first_decision(step, stream) for stream in streams]
    mine = np.array([n if decision is Decision.FIRST else 0 for decision, n in found])
    assert ((mine > 0) == (theirs > 0)).sum() >= 497
    both = (mine > 0) & (theirs > 0)
    apart = mine[both] - theirs[both]
    assert np.median(apart) == 0
    assert -1.5 < apart.mean() < 0.5
    assert np.mean(np.abs(apart) <= 3) > 0.85


def test_stops_before_a_test_of_fixed_size_would(step):
    found = characteristics(step, independent(0.85, 0.65))
    assert found.first > 0.99
    assert found.pairs < 66
    # with as many pairs as it takes on average, the best test of fixed size finds less
    assert power(0.85, 0.65, 66, formula="barnard", alternative="greater") < 0.87


def test_chances_of_the_last_pair_given_the_counts():
    """The binomial law must come back when nothing is ever rejected."""
    from kinema.evaluation.sequential.step import _next_open

    open_ = np.ones((1, 1))
    for n in range(1, 9):
        open_ = _next_open(open_, n)
    assert open_ == pytest.approx(np.ones((9, 9)))
    assert stats.binom.pmf(3, 8, 0.3) > 0
