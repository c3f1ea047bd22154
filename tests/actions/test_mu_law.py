"""Gato's companding: published values, exact inverse, and errors that grow with the value."""

from __future__ import annotations

import numpy as np
import pytest

from kinema.actions.mu_law import MuLaw
from kinema.core.errors import KinemaError


def test_published_values() -> None:
    values = np.array([1.0, 0.1, 10.0, 256.0])
    np.testing.assert_allclose(MuLaw().compress(values), [0.45467, 0.23624, 0.68064, 1.0], atol=5e-6)
    np.testing.assert_allclose(MuLaw().compress(-values), -MuLaw().compress(values))


def test_the_inverse_is_exact() -> None:
    values = np.random.default_rng(0).uniform(-256, 256, 10_000)
    assert np.abs(MuLaw().expand(MuLaw().compress(values)) - values).max() < 1e-9


@pytest.mark.parametrize(
    ("value", "error"), [(0.01, 0.018), (0.1, 0.0098), (1.0, 0.0059), (10.0, 0.00025), (100.0, 0.0017)]
)
def test_relative_error_of_a_round_trip(value: float, error: float) -> None:
    law = MuLaw()
    for sign in (1, -1):
        back = law.decode(law.encode(np.array([sign * value])))[0]
        assert abs(back - sign * value) / value == pytest.approx(error, rel=0.03)


def test_tokens_survive_and_outliers_go_to_the_ends() -> None:
    law = MuLaw()
    tokens = np.arange(law.size)
    assert np.array_equal(law.encode(law.decode(tokens)), tokens)
    assert law.encode(np.array([-1e6, 1e6])).tolist() == [0, law.size - 1]


def test_it_is_not_the_other_mu_law() -> None:
    """WaveNet's constants give other tokens: a check that a mixed-up constant fails."""
    assert MuLaw(mu=255.0, limit=1.0).compress(np.array([0.1]))[0] == pytest.approx(0.5908, abs=1e-3)


def test_bad_input_is_named() -> None:
    with pytest.raises(KinemaError, match="not finite"):
        MuLaw().encode(np.array([np.inf]))
    with pytest.raises(KinemaError, match="tokens 0 to 1024, expected 0 to 1023"):
        MuLaw().decode(np.array([0, 1024]))
    with pytest.raises(KinemaError, match="bins 1 at least 2"):
        MuLaw(bins=1)
