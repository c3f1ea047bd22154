"""Energies: loss, penalty and search by hand, a jump that regression blurs, and two ways kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kinema.core.errors import KinemaError
from kinema.heads.base import Head
from kinema.heads.energy import Energy, EnergyHead
from kinema.heads.regression import Regression
from kinema.nets.base import Context
from kinema.sim.fork import Fork

WIDTH = 32


def head_of(config: Energy, horizon: int = 1, actions: int = 1) -> EnergyHead:
    torch.manual_seed(0)
    return config.build(action_width=actions, pred_horizon=horizon, width=WIDTH)


def context_of(readout: Tensor) -> Context:
    return Context(
        tokens=readout[:, None],
        mask=torch.ones(len(readout), 1, dtype=torch.bool),
        readout={"action": readout[:, None]},
    )


ALIKE = context_of(torch.ones(3, WIDTH))


def test_loss_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Energy 3 a: InfoNCE is log sum exp(3 (a+ - a)), the positive first; the slope 3 exceeds the margin 1 by 2."""
    head = head_of(Energy(negatives=4, penalty=0.5, margin=1.0), horizon=2)
    seen: list[Tensor] = []

    def linear(chunks: Tensor, readout: Tensor) -> Tensor:
        seen.append(chunks.detach())
        return 3.0 * chunks[:, :, 0, 0]

    monkeypatch.setattr(head, "energy", linear)
    action, mask = torch.tensor([[[0.2], [9.0]]]).expand(3, -1, -1), torch.tensor([[True, False]]).expand(3, -1)
    loss = head.loss(ALIKE, action, mask, rng=torch.Generator().manual_seed(1))
    chunks = seen[0].double().numpy()
    assert chunks.shape == (3, 5, 2, 1) and (np.abs(chunks) <= 1).all(), "the padding 9 is not among them"
    assert (chunks[:, 0, 0, 0] == pytest.approx(0.2)) and len(np.unique(chunks[:, 1:, 0])) == 12
    assert (chunks[:, :, 1] == chunks[:, :1, 1]).all(), "where padded all chunks are alike"
    values = 3.0 * chunks[:, :, 0, 0]
    expected = np.log(np.exp(values[:, :1] - values).sum(1)) + 0.5 * (3 - 1) ** 2
    assert loss[:, 0].numpy() == pytest.approx(expected, rel=1e-5) and (loss[:, 1] == 0).all()


def test_slope_is_the_derivative_wherever_gradients_are_off() -> None:
    head = head_of(Energy(), horizon=2, actions=2)
    chunks = torch.rand(3, 4, 2, 2, generator=torch.Generator().manual_seed(2)).requires_grad_()
    readout = torch.ones(3, WIDTH)
    expected = torch.autograd.grad(head.energy(chunks, readout).sum(), chunks)[0]
    assert torch.allclose(head.slope(chunks.detach(), readout), expected, atol=1e-6)
    for off in (torch.no_grad(), torch.inference_mode()):
        with off:
            assert torch.allclose(head.slope(chunks.detach().clone(), readout.clone()), expected, atol=1e-6)


def test_langevin_steps_are_those_of_the_authors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes fall from 0.1 to 1e-5 with power 2, scale slope / 2 and noise alike, and no move exceeds 0.1."""
    head = head_of(Energy())
    readout, start = torch.ones(3, WIDTH), torch.zeros(3, 1000, 1, 1)
    monkeypatch.setattr(head, "slope", lambda chunks, readout: torch.zeros_like(chunks))
    noisy = head._langevin(start, readout, torch.Generator().manual_seed(3), 2)
    clipped = torch.randn(3, 1000, 1, 1, generator=torch.Generator().manual_seed(3)).mul(0.1).clamp(-0.1, 0.1)
    assert torch.allclose(noisy, -clipped, atol=1e-4), "0.1 times the noise, then 1e-5 times"
    sizes = np.array([(0.1 - 1e-5) * (1 - i / 4) ** 2 + 1e-5 for i in range(5)])
    monkeypatch.setattr("kinema.heads.energy.normal", lambda shape, rng, device: torch.zeros(shape))
    for slope in (0.3, -0.3, 4.0):
        monkeypatch.setattr(head, "slope", lambda chunks, readout, slope=slope: torch.full_like(chunks, slope))
        moved = head._langevin(start, readout, torch.Generator(), 5)[0, 0].item()
        assert moved == pytest.approx(-np.clip(0.5 * slope * sizes, -0.1, 0.1).sum(), abs=1e-6)


@pytest.mark.parametrize("search", ["derivative_free", "langevin"])
def test_search_finds_the_lowest_energy(search: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Energy(search=search, temperature=0.0, candidates=512)
    head, target = head_of(config, horizon=1, actions=2), torch.tensor([0.3, -0.95])
    monkeypatch.setattr(head, "energy", lambda chunks, readout: 50 * (chunks - target).square().sum((2, 3)))
    found = head.sample(ALIKE, rng=torch.Generator().manual_seed(4))
    assert (found - target).abs().max() < 0.03
    monkeypatch.setattr(head, "energy", lambda chunks, readout: -chunks.sum((2, 3)))
    assert torch.allclose(head.sample(ALIKE, rng=torch.Generator()), torch.tensor(1.0), atol=0.02), "not past the box"


class Step(nn.Module):
    """A head and the small net that makes its readout of x (B,)."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head
        self.read = nn.Sequential(nn.Linear(1, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))

    def context(self, x: Tensor) -> Context:
        return context_of(self.read(x[:, None]))


def fitted_step(head: Head, steps: int) -> Step:
    """Return the head trained on y = sign(x)."""
    torch.manual_seed(0)
    step, rng = Step(head), torch.Generator().manual_seed(5)
    optimiser = torch.optim.Adam(step.parameters(), lr=2e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        x = torch.rand(64, generator=rng) * 2 - 1
        loss = step.head.loss(step.context(x), x.sign()[:, None, None], torch.ones(64, 1, dtype=torch.bool), rng=rng)
        optimiser.zero_grad()
        loss.mean().backward()
        optimiser.step()
        decay.step()
    return step


def test_a_jump_stays_a_jump() -> None:
    """y = sign(x): the energy is right outside a band of 0.02 and -1 or +1 within, regression is between."""
    config = Energy(hidden=64, blocks=1, negatives=16, candidates=128, temperature=0.0)
    step = fitted_step(head_of(config), 600)
    x = torch.linspace(-0.98, 0.98, 50)
    found = {}
    for search in ("derivative_free", "langevin"):
        step.head.config = replace(config, search=search)  # type: ignore[assignment, arg-type]
        with torch.no_grad():
            found[search] = step.head.sample(step.context(x), rng=torch.Generator().manual_seed(6))[:, 0, 0]
        assert (found[search] - x.sign()).abs().max() <= 0.02, search
    assert (found["derivative_free"] - found["langevin"]).abs().max() <= 0.02
    torch.manual_seed(0)
    regression = fitted_step(Regression(blocks=1).build(action_width=1, pred_horizon=1, width=WIDTH), 600)
    x = torch.linspace(-0.05, 0.05, 101)
    with torch.no_grad():
        between = regression.head.sample(regression.context(x), rng=torch.Generator())[:, 0, 0].abs().min()
        jumps = step.head.sample(step.context(x), rng=torch.Generator().manual_seed(7))[:, 0, 0].abs().min()
    assert between < 0.5 and jumps >= 0.98


def test_both_ways_are_kept(fit: Callable[..., Any]) -> None:
    """A margin that leaves the energy no steep walls leaves nothing to draw from."""
    fork = Fork(correlated=True, horizon=1)
    config = Energy(hidden=64, blocks=1, negatives=32, candidates=64, steps=25)
    modes = fork.judge(fit(config, fork, steps=300, seed=0, batch=64).sample(100, 0))
    assert modes.cover >= 0.3 and modes.invalid <= 0.1, modes
    flat = fork.judge(fit(replace(config, margin=1.0), fork, steps=300, seed=0, batch=64).sample(100, 0))
    assert flat.invalid >= 0.15, flat


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(KinemaError, match="unknown search of an energy 'langvin'; did you mean 'langevin'"):
        head_of(Energy(search="langvin"))  # type: ignore[arg-type]
    with pytest.raises(KinemaError, match="negatives 0 and candidates 256 must be at least 1"):
        head_of(Energy(negatives=0))
    with pytest.raises(KinemaError, match="penalty -1"):
        head_of(Energy(penalty=-1.0))
