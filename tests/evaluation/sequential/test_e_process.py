import math

import numpy as np
import pytest
from scipy.integrate import quad

from kinema.evaluation.sequential.base import characteristics
from kinema.evaluation.sequential.e_process import EProcess, log_e_value


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (7, 0), (9, 4), (30, 12), (2, 9)])
def test_is_the_mean_wealth(wins, losses):
    mean, _ = quad(lambda u: (1 + u) ** wins * (1 - u) ** losses, 0, 1)
    assert float(log_e_value(np.array(wins), np.array(losses))) == pytest.approx(math.log(mean), abs=1e-9)


def test_a_clean_sweep_by_hand():
    """The mean of (1 + u)^7 over (0, 1) is 255/8 = 31.9, above 1/.05; of (1 + u)^6, 127/7 = 18.1, below."""
    assert math.exp(log_e_value(np.array(7), np.array(0))) == pytest.approx(255 / 8)
    assert EProcess(n_max=10, alternative="greater").favours_first(7)[7, 0]
    assert not EProcess(n_max=10, alternative="greater").favours_first(7)[6, 0]


def test_wealth_never_grows_on_average_in_a_fair_game():
    for wins in range(12):
        for losses in range(12):
            now = math.exp(log_e_value(np.array(wins), np.array(losses)))
            won, lost = (math.exp(log_e_value(np.array(wins + a), np.array(losses + 1 - a))) for a in (1, 0))
            assert (won + lost) / 2 == pytest.approx(now)
            assert 0.4 * won + 0.6 * lost < now


def test_holds_without_a_largest_number_of_pairs():
    """The false decisions creep up and stay below the level, however many pairs there are."""
    found = [
        characteristics(EProcess(n_max=n, alternative="greater"), (0.0, 0.5, 0.5, 0.0)).first for n in (50, 100, 200)
    ]
    assert found == sorted(found)
    assert found[-1] < 0.05


def test_stays_finite_when_all_is_lost():
    assert log_e_value(np.array(0), np.array(2000)) < -5
