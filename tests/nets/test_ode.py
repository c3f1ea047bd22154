"""Integrators have their orders, and straight paths have straightness 0."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kinema.core.errors import KinemaError
from kinema.nets.ode import Integrator, check_integrator, integrate, straightness


def curved(x: Tensor, t: Tensor) -> Tensor:
    """dx/dt = x cos(3 t), solved by x(1) = x(0) exp(sin(3) / 3)."""
    return x * torch.cos(3 * t.double())[:, None, None]


@pytest.mark.parametrize(("integrator", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2)])
def test_order_of_convergence(integrator: Integrator, order: int) -> None:
    start = torch.full((2, 3, 1), 1.5, dtype=torch.float64)
    exact = 1.5 * math.exp(math.sin(3) / 3)
    errors = [abs(integrate(curved, start, steps=n, integrator=integrator)[0, 0, 0].item() - exact) for n in (256, 512)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


def test_steps_by_hand() -> None:
    """v = 2 x from 1 in one step: Euler 1 + 2, midpoint 1 + 2 (1 + 1), Heun 1 + (2 + 2 (1 + 2)) / 2."""
    one = torch.ones(1, 1, 1)
    expected: dict[Integrator, float] = {"euler": 3.0, "midpoint": 5.0, "heun": 5.0}
    for integrator, end in expected.items():
        assert integrate(lambda x, t: 2 * x, one, steps=1, integrator=integrator).item() == end


def test_straightness_by_hand() -> None:
    """v = t in two steps of 1/2: slopes 0 and 1/2, way 1/4, so (1/4)^2 at both; two components double it."""
    noise = torch.randn(4, 1, 2, generator=torch.Generator().manual_seed(1))
    bent = straightness(lambda x, t: t[:, None, None].expand_as(x), noise, steps=2)
    assert torch.allclose(bent, torch.full((4,), 2 / 16), atol=1e-6)
    straight = straightness(lambda x, t: torch.full_like(x, 0.7), noise, steps=5)
    assert straight.max() < 1e-12


def test_an_unknown_integrator_is_refused() -> None:
    with pytest.raises(KinemaError, match="unknown integrator 'eular'; did you mean 'euler'"):
        check_integrator("eular")
