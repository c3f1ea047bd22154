import math

import numpy as np
import pytest

from kinema.evaluation.sequential.base import characteristics, independent
from kinema.evaluation.sequential.lai import Lai, decides, stopping_bound


def test_the_pieces_of_the_bound_meet():
    for t, apart in ((0.01, 0.03), (0.1, 0.03), (0.8, 0.03)):
        before, after = stopping_bound(np.array([t * (1 - 1e-9), t]))
        assert before == pytest.approx(after, rel=apart)


def test_bound_by_hand():
    """t = .5: h = exp(-1.345) = .26054; g = h^2 / 1. t = 2: h = sqrt(2/pi)/4 (1/sqrt 2 - 5/(48 pi 2^2.5))."""
    assert stopping_bound(np.array([0.5]))[0] == pytest.approx(math.exp(-1.345) ** 2)
    h = math.sqrt(2 / math.pi) / 4 * (1 / math.sqrt(2) - 5 / (48 * math.pi * 2**2.5))
    assert stopping_bound(np.array([2.0]))[0] == pytest.approx(h * h / 4)


def test_information_of_a_clean_sweep():
    """All of m pairs won: m log 2 against the bound."""
    m = np.arange(1, 12)
    assert (decides(m, m, 1e-4) == (m * math.log(2) >= stopping_bound(1e-4 * m))).all()
    assert not decides(np.array([0, 5]), np.array([0, 10]), 1e-4).any()


def test_the_cost_uses_up_the_level():
    """Pairs that always differ, either way with chance one half, are what it is set for."""
    for n_max in (50, 200):
        found = characteristics(Lai(n_max=n_max, alternative="greater"), (0.0, 0.5, 0.5, 0.0))
        assert 0.043 < found.first <= 0.05


def test_finds_a_real_difference():
    found = characteristics(Lai(n_max=200, alternative="greater"), independent(0.85, 0.65))
    assert found.first > 0.98
    assert found.pairs < 85
