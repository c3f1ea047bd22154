"""Regression: errors and optima by hand, padding without influence, and what averaging does to two ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kinema.core.errors import KinemaError
from kinema.heads.regression import Loss, Regression, RegressionHead
from kinema.nets.base import Context
from kinema.sim.fork import Fork

LOSSES: tuple[Loss, ...] = ("mse", "l1", "huber")


def head_of(config: Regression, horizon: int = 1, actions: int = 2) -> RegressionHead:
    torch.manual_seed(0)
    return config.build(action_width=actions, pred_horizon=horizon, width=8)


def context_of(batch: int) -> Context:
    readout = torch.ones(batch, 1, 8)
    return Context(tokens=readout, mask=torch.ones(batch, 1, dtype=torch.bool), readout={"action": readout})


@pytest.mark.parametrize(
    ("loss", "expected"), [("mse", (0.25 + 4) / 2), ("l1", (0.5 + 2) / 2), ("huber", (0.125 + 1 * (2 - 0.5)) / 2)]
)
def test_errors_by_hand(loss: Loss, expected: float) -> None:
    head = head_of(Regression(loss=loss))
    off = head.sample(context_of(1), rng=torch.Generator()).detach() + torch.tensor([0.5, -2.0])
    mask = torch.ones(1, 1, dtype=torch.bool)
    assert head.loss(context_of(1), off, mask, rng=torch.Generator()).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("loss", "best"), [("mse", 0.2), ("l1", 1.0), ("huber", 1 / 3)])
def test_optimum_of_sixty_to_forty(loss: Loss, best: float) -> None:
    """60 x +1 and 40 x -1: the mean is 0.2, the median +1. Huber: the 40 pull with delta each, the 60 with 1 - x each,
    so 1 - x = 40 / 60 delta.
    """
    data = torch.cat([torch.ones(60), -torch.ones(40)])
    grid = torch.linspace(-1, 1, 601)
    head = head_of(Regression(loss=loss))
    cost = head._error(grid[:, None].expand(-1, 100), data.expand(601, -1)).mean(1)
    assert grid[cost.argmin()].item() == pytest.approx(best, abs=2e-3)
    if loss == "huber":
        half = head_of(Regression(loss="huber", huber_delta=0.5))
        cost = half._error(grid[:, None].expand(-1, 100), data.expand(601, -1)).mean(1)
        assert grid[cost.argmin()].item() == pytest.approx(2 / 3, abs=2e-3)
    if loss == "l1":
        even = head._error(grid[:, None].expand(-1, 2), torch.tensor([-1.0, 1.0]).expand(601, -1)).mean(1)
        assert even.max() - even.min() < 1e-6, "without a majority every value between the two is as good"


@pytest.mark.parametrize("loss", LOSSES)
def test_padded_steps_get_exactly_no_gradient(loss: Loss) -> None:
    head = head_of(Regression(loss=loss), horizon=4)
    action = torch.randn(2, 4, 2, generator=torch.Generator().manual_seed(1)).requires_grad_()
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    head.loss(context_of(2), action, mask, rng=torch.Generator()).sum().backward()
    assert action.grad is not None
    assert (action.grad[~mask] == 0).all() and (action.grad[mask] != 0).all()


def test_squared_error_drives_into_the_obstacle(fit: Callable[..., Any]) -> None:
    """The mean of two ways is neither; with one way there is nothing to average."""
    assert Fork().judge(fit(Regression(), Fork(), steps=100, seed=0).sample(50, 0)).invalid >= 0.9
    assert Fork().judge(fit(Regression(), Fork(majority=1.0), steps=100, seed=0).sample(50, 0)).left >= 0.95


def test_absolute_error_takes_the_way_of_the_majority(fit: Callable[..., Any]) -> None:
    fork = Fork(majority=0.6)
    assert fork.judge(fit(Regression(loss="l1"), fork, steps=400, seed=0).sample(50, 0)).left >= 0.95
    assert fork.judge(fit(Regression(), fork, steps=100, seed=0).sample(50, 0)).invalid >= 0.9


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(KinemaError, match="unknown regression loss 'mae'"):
        head_of(Regression(loss="mae"))  # type: ignore[arg-type]
    with pytest.raises(KinemaError, match=r"huber_delta 0\.0 must be above 0"):
        head_of(Regression(loss="huber", huber_delta=0.0))
