"""Guidance in closed form: two Gaussian chunks have an exact velocity and Jacobian, so nothing is trained."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from kinema.deploy.chunking.realtime_chunking import prefix_weights
from kinema.nets.inpainting import coefficient, pulled
from kinema.nets.ode import integrate

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from two_modes import TwoModes

HORIZON, DELAY, EVERY = 16, 4, 4
WEIGHT = torch.from_numpy(prefix_weights(HORIZON, DELAY, EVERY)).double()
CENTRE = torch.sin(torch.pi * torch.arange(1, HORIZON + 1, dtype=torch.float64) / HORIZON)[:, None]
MIXTURE = TwoModes(means=torch.stack([CENTRE, -CENTRE]), weights=torch.tensor([0.5, 0.5]).double(), std=0.05)
NOISE = torch.randn(2000, HORIZON, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@dataclass(frozen=True)
class Measured:
    flips: float
    prefix: float
    off_mode: float


def measured(velocity, *, steps, target=CENTRE):
    """Flow from noise; how often the other mode, how far from the target before `DELAY`, and from the own mode."""
    x = integrate(lambda x, t: velocity(x, t.to(x.dtype)), NOISE, steps=steps)
    side = torch.where((x * CENTRE).sum((1, 2)) > 0, 1.0, -1.0)[:, None, None]
    return Measured(
        flips=float((side < 0).double().mean()),
        prefix=float((x - target)[:, :DELAY].square().mean().sqrt()),
        off_mode=float((x - side * CENTRE)[:, :DELAY].square().mean().sqrt()),
    )


def guided(target=CENTRE, limit=5.0):
    return pulled(MIXTURE.velocity, target.expand_as(NOISE), WEIGHT, limit=limit)


def with_identity(target=CENTRE, limit=5.0):
    """The negative control: the error itself where its product with the Jacobian belongs."""

    def velocity(x, t):
        plain, left = MIXTURE.velocity(x, t), (1 - t)[:, None, None]
        return plain + coefficient(t, limit)[:, None, None] * WEIGHT[:, None] * (target - x - left * plain)

    return velocity


def test_the_new_chunk_stays_in_the_mode_of_the_old_one():
    plain = measured(MIXTURE.velocity, steps=10)
    assert plain.flips == pytest.approx(0.5, abs=0.03) and plain.prefix == pytest.approx(0.7, abs=0.03)
    for steps, flips, prefix in ((5, 0.050, 0.219), (10, 0.022, 0.144), (20, 0.015, 0.116)):
        found = measured(guided(), steps=steps)
        assert found.flips == pytest.approx(flips, abs=0.012)
        assert found.prefix == pytest.approx(prefix, abs=0.02)


def test_an_identity_jacobian_is_another_method():
    found = measured(with_identity(), steps=10)
    assert found.flips == pytest.approx(0.005, abs=0.005) and found.prefix == pytest.approx(0.038, abs=0.008)
    # It holds the old chunk harder, also where the policy itself would not go any more.
    moved = CENTRE + 0.3
    true, copied = measured(guided(moved), steps=10, target=moved), measured(with_identity(moved), steps=10)
    assert true.off_mode < 0.06 and copied.off_mode > 0.15


def test_the_correction_is_the_jacobian_of_the_denoised_chunk():
    """By finite differences of sum(weight * error * denoised), the error held fixed."""
    x, t = NOISE[:3], torch.full((3,), 0.6, dtype=torch.float64)

    def denoised(x):
        return x + 0.4 * MIXTURE.velocity(x, t)

    error = WEIGHT[:, None] * (CENTRE - denoised(x))
    correction = pulled(MIXTURE.velocity, CENTRE.expand_as(x), WEIGHT, limit=5.0)(x, t) - MIXTURE.velocity(x, t)
    for step in (0, 5, 15):
        delta = torch.zeros_like(x)
        delta[:, step] = 1e-6
        slope = ((denoised(x + delta) - denoised(x - delta)) * error).sum((1, 2)) / 2e-6
        scale = (0.6**2 + 0.4**2) / (0.6 * 0.4)  # below the limit
        torch.testing.assert_close(correction[:, step, 0], scale * slope, rtol=1e-5, atol=1e-8)


def test_without_weight_nothing_is_changed():
    free = pulled(MIXTURE.velocity, CENTRE.expand_as(NOISE), torch.zeros(HORIZON).double(), limit=5.0)
    t = torch.full((len(NOISE),), 0.3, dtype=torch.float64)
    assert torch.equal(free(NOISE, t), MIXTURE.velocity(NOISE, t))


def test_where_the_limit_binds():
    t = torch.tensor([0.0, 0.1, 0.172, 0.174, 0.5, 0.826, 0.828, 1.0])
    found = coefficient(t, 5.0)
    np.testing.assert_array_equal((found == 5.0).tolist(), [True, True, True, False, False, False, True, True])
    assert float(found[4]) == pytest.approx(2.0)  # (1/4 + 1/4) / (1/4)


def test_guidance_works_where_gradients_are_off():
    with torch.no_grad():
        x = guided()(NOISE, torch.full((len(NOISE),), 0.3, dtype=torch.float64))
    assert not x.requires_grad
