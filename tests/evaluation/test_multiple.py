import numpy as np
import pytest

from kinema.core.errors import KinemaError
from kinema.evaluation.multiple import holm


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_a_planted_effect_is_found_and_chance_seldom_is():
    """2 of 8 p-values are real; among the 6 others a false claim is made in at most 5 % of 4000 families."""
    rng = np.random.default_rng(1)
    false, found = 0, 0
    for _ in range(4000):
        adjusted = holm([*rng.uniform(0, 1e-3, 2), *rng.uniform(0, 1, 6)])
        found += max(adjusted[:2]) <= 0.05
        false += min(adjusted[2:]) <= 0.05
    assert found == 4000
    assert 0.04 < false / 4000 < 0.058


@pytest.mark.parametrize("bad", [1.2, -0.1, float("nan")])
def test_what_is_no_p_value_is_named(bad):
    with pytest.raises(KinemaError, match=f"not a p-value: {bad}"):
        holm([0.2, bad])
