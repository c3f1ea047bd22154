"""The exact flow agrees with autograd, with the closed form of one Gaussian and with its own samples."""

from __future__ import annotations

import math

import pytest
import torch
from two_modes import TwoModes, fork_modes

from kinema.sim.fork import Fork

WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)


def mixture(std: float = 0.4) -> TwoModes:
    means = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return TwoModes(means=means, weights=WEIGHTS, std=std)


def points(count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, 2, generator=rng, dtype=torch.float64), torch.linspace(0.1, 0.9, count).double()


def test_score_is_the_gradient_of_the_log_density() -> None:
    x, t = points()
    (gradient,) = torch.autograd.grad(mixture().log_density(x.requires_grad_(), t).sum(), x)
    assert torch.allclose(mixture().score(x, t), gradient, atol=1e-12)


def test_the_two_conditional_means_add_up_to_the_point() -> None:
    x, t = points()
    exact, time = mixture(), t[:, None, None]
    assert torch.allclose((1 - time) * exact.noise(x, t) + time * exact.data(x, t), x, atol=1e-12)
    # Tweedie: E[eps | x_t] = -(1 - t) score.
    assert torch.allclose(exact.noise(x, t), -(1 - time) * exact.score(x, t), atol=1e-12)


@pytest.mark.parametrize(("steps", "std"), [(1, 0.0), (2, 0.2), (5, 0.3692), (10, 0.4308), (100, 0.4926)])
def test_euler_steps_narrow_one_gaussian_as_the_closed_form_says(steps: int, std: float) -> None:
    """Each step multiplies by 1 + a_i / n with a_i = (t s^2 - (1 - t)) / v_t: for s = 0.5 these are the products."""
    one = TwoModes(means=torch.zeros(1, 1, 1).double(), weights=torch.ones(1).double(), std=0.5)
    x = torch.tensor([[[1.0]], [[-2.0]]]).double()
    factors = [(0.25 * t - (1 - t)) / ((1 - t) ** 2 + 0.25 * t * t) for t in (i / steps for i in range(steps))]
    assert torch.allclose(one.euler(x, steps), x * math.prod(1 + a / steps for a in factors), atol=1e-12)
    assert one.euler(x, steps)[0].item() == pytest.approx(std, abs=5e-5)


def test_one_step_is_the_mean_and_ten_are_both_modes() -> None:
    modes = fork_modes(Fork(majority=0.6))
    noise = torch.randn(2000, 16, 2, generator=torch.Generator().manual_seed(2))
    mean = (modes.weights[:, None, None] * modes.means).sum(0)
    assert torch.allclose(modes.euler(noise, 1), mean.expand(2000, -1, -1), atol=1e-5)
    judged = Fork().judge(modes.euler(noise, 10).numpy())
    assert judged.left == pytest.approx(0.6, abs=0.05) and judged.invalid < 0.02
    drawn = Fork().judge(modes.sample(2000, torch.Generator().manual_seed(3)).numpy())
    assert drawn.left == pytest.approx(0.6, abs=0.035) and drawn.invalid == pytest.approx(0.0, abs=1e-9)
