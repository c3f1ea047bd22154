"""The four binning conventions against their published references and the numbers that tell them apart."""

from __future__ import annotations

import numpy as np
import pytest

from kinema.actions.bins import Bins
from kinema.actions.codec import vocabulary_ids
from kinema.core.config import from_data, to_data
from kinema.core.errors import KinemaError

CONVENTIONS = ("rt1", "openvla", "centred", "left_edge")
VALUES = np.random.default_rng(0).uniform(-1.2, 1.2, 100_000)
GRID = np.linspace(-1, 1, 200_001)


def rt1(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """tensor2robot's rule: clip, scale to 0..1, times 255, cast to int; back by dividing by 255."""
    tokens = ((np.clip(x, -1, 1) + 1) / 2 * 255).astype(np.int32)
    return tokens, tokens / 255 * 2 - 1


def openvla(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """OpenVLA's rule: ids count down from the end of Llama-2's vocabulary, the last centre is used twice."""
    edges = np.linspace(-1, 1, 256)
    ids = 32000 - np.digitize(np.clip(x, -1, 1), edges)
    centres = (edges[:-1] + edges[1:]) / 2
    return ids, centres[np.clip(32000 - ids - 1, 0, len(centres) - 1)]


def left_edge(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """openpi's rule for states inside the range."""
    edges = np.linspace(-1, 1, 257)[:-1]
    tokens = np.digitize(np.clip(x, -1, 1), bins=edges) - 1
    return tokens, edges[tokens]


@pytest.mark.parametrize(("name", "reference"), [("rt1", rt1), ("openvla", openvla), ("left_edge", left_edge)])
def test_equals_the_reference(name: str, reference) -> None:
    bins = Bins(convention=name)
    tokens, values = reference(VALUES)
    own = bins.encode(VALUES)
    assert np.array_equal(vocabulary_ids(own, 32000) if name == "openvla" else own, tokens)
    np.testing.assert_allclose(bins.decode(own), values, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "largest", "bias", "ends"),
    [
        ("rt1", 7.8430e-3, -3.9215e-3, (-1.0, -0.0039216, 1.0)),
        ("openvla", 3.9216e-3, 0.0, (-0.99608, 0.0, 0.99608)),
        ("centred", 3.90625e-3, 0.0, (-0.99609, 0.00390625, 0.99609)),
        ("left_edge", 7.8125e-3, -3.905e-3, (-1.0, 0.0, 0.9921875)),
    ],
)
def test_published_errors(name: str, largest: float, bias: float, ends: tuple[float, ...]) -> None:
    bins = Bins(convention=name)
    error = bins.decode(bins.encode(GRID)) - GRID
    assert np.abs(error).max() == pytest.approx(largest, rel=1e-4)
    assert error.mean() == pytest.approx(bias, abs=5e-6)
    np.testing.assert_allclose(bins.decode(bins.encode(np.array([-1.0, 0.0, 1.0]))), ends, atol=6e-6)


def test_ids_in_a_vocabulary() -> None:
    tokens = Bins(convention="openvla").encode(np.array([-1.0, 0.0, 1.0]))
    ids = vocabulary_ids(tokens, 32000)
    assert ids.tolist() == [31999, 31872, 31744]
    assert np.array_equal(vocabulary_ids(ids, 32000), tokens)


@pytest.mark.parametrize("name", CONVENTIONS)
def test_tokens_survive_and_shapes_and_ranges_hold(name: str) -> None:
    bins = Bins(convention=name, low=2.0, high=6.0)
    values = np.random.default_rng(1).uniform(2, 6, (3, 4, 5))
    tokens = bins.encode(values)
    assert tokens.shape == values.shape and tokens.dtype == np.int64
    assert 0 <= tokens.min() and tokens.max() < bins.size == 256
    assert np.abs(bins.decode(tokens) - values).max() <= 7.85e-3 * 2
    assert np.array_equal(bins.encode(np.array([-9.0, 99.0])), bins.encode(np.array([2.0, 6.0])))
    if name in ("openvla", "centred"):
        assert np.array_equal(bins.encode(bins.decode(tokens)), tokens)
    assert from_data(to_data(bins)) == bins


def test_bad_input_is_named() -> None:
    bins = Bins(convention="centred")
    with pytest.raises(KinemaError, match="not finite"):
        bins.encode(np.array([0.0, np.nan]))
    with pytest.raises(KinemaError, match="tokens -1 to 3, expected 0 to 255"):
        bins.decode(np.array([-1, 3]))
    with pytest.raises(KinemaError, match="tokens are float64"):
        bins.decode(np.array([0.5]))
    with pytest.raises(KinemaError, match="unknown binning convention 'rt2'; did you mean 'rt1'"):
        Bins(convention="rt2")
    with pytest.raises(KinemaError, match=r"bins from 1.0 to 1.0"):
        Bins(convention="rt1", low=1.0)
