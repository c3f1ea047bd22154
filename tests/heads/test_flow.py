"""Flow matching against its closed form, its noise against scipy, its loss by hand, and what it is for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from kinema.core.errors import KinemaError
from kinema.heads.base import Head
from kinema.heads.flow import Flow, FlowHead
from kinema.heads.regression import Regression
from kinema.nets.base import Context
from kinema.nets.conditioning import Guidance
from kinema.nets.denoisers.mlp import Mlp
from kinema.nets.ode import Integrator

WIDTH = 8


def context_of(batch: int) -> Context:
    readout = torch.ones(batch, 1, WIDTH)
    return Context(tokens=readout, mask=torch.ones(batch, 1, dtype=torch.bool), readout={"action": readout})


def head_of(config: Flow, horizon: int = 1, actions: int = 1) -> FlowHead:
    torch.manual_seed(0)
    return config.build(action_width=actions, pred_horizon=horizon, width=WIDTH)


@pytest.mark.parametrize(("steps", "std"), [(1, 0.0), (2, 0.2), (5, 0.3692), (10, 0.4308), (100, 0.4926)])
def test_euler_steps_on_gaussian_data_have_the_known_spread(
    steps: int, std: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For data N(0, s^2) the exact field is v = x (t s^2 - (1 - t)) / (t^2 s^2 + (1 - t)^2), here s = 0.5.

    Euler from t = 0 multiplies the noise by prod_k (1 + c(k / n) / n): 0.4926 of 0.5 only after a hundred steps.
    """
    variance = 0.25

    def exact(x: Tensor, t: Tensor, context: Context) -> Tensor:
        t = t[:, None, None]
        return x * (t * variance - (1 - t)) / (t**2 * variance + (1 - t) ** 2)

    head = head_of(Flow(steps=steps), horizon=3, actions=2)
    monkeypatch.setattr(head, "velocity", exact)
    samples = head.sample(context_of(4000), rng=torch.Generator().manual_seed(1))
    noise = torch.randn(4000, 3, 2, generator=torch.Generator().manual_seed(1))
    times = np.arange(steps) / steps
    rate = (times * variance - (1 - times)) / (times**2 * variance + (1 - times) ** 2)
    gain = np.prod(1 + rate / steps)
    assert gain == pytest.approx(std, abs=5e-5)
    assert (samples - gain * noise).abs().max() < 1e-6 * noise.abs().max()
    assert samples.std().item() == pytest.approx(std, abs=0.01)


def test_times_have_the_distribution_of_pi0() -> None:
    beta = head_of(Flow(time="beta"))._times(20_000, torch.Generator().manual_seed(2), torch.device("cpu"))
    assert beta.min() >= 0 and beta.max() <= 0.999
    assert scipy.stats.kstest((1 - beta.numpy() - 0.001) / 0.999, scipy.stats.beta(1.5, 1).cdf).pvalue > 0.01
    uniform = head_of(Flow(time="uniform"))._times(20_000, torch.Generator().manual_seed(2), torch.device("cpu"))
    assert scipy.stats.kstest(uniform.numpy(), "uniform").pvalue > 0.01
    assert scipy.stats.kstest(beta.numpy(), "uniform").pvalue < 1e-6


def test_loss_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """With v = 3 x_t + t the loss follows from the noise and times that the generator gives."""
    head = head_of(Flow(draws=2, time="uniform"), horizon=2, actions=2)
    seen: list[Tensor] = []

    def field(x: Tensor, t: Tensor, context: Context) -> Tensor:
        seen.append(t)
        return 3 * x + t[:, None, None]

    monkeypatch.setattr(head.net.denoiser, "forward", field)
    action = torch.tensor([[[1.0, -2.0], [0.5, 4.0]]])
    mask = torch.tensor([[True, False]])
    loss = head.loss(context_of(1), action, mask, rng=torch.Generator().manual_seed(3))

    rng = torch.Generator().manual_seed(3)
    noise = torch.randn(2, 2, 2, generator=rng).double().numpy()
    t = scipy.stats.norm.cdf(torch.randn(2, 1, generator=rng).double().numpy())[:, 0]
    assert seen[0].numpy() == pytest.approx(t, abs=1e-6)
    data = action[0, 0].double().numpy()
    errors = [
        np.mean((3 * ((1 - t[draw]) * noise[draw, 0] + t[draw] * data) + t[draw] - (data - noise[draw, 0])) ** 2)
        for draw in range(2)
    ]
    assert loss[0, 0].item() == pytest.approx(np.mean(errors), rel=1e-5)
    assert loss[0, 1].item() == 0


def trained(head: Head, targets: Tensor, steps: int = 500) -> Tensor:
    """Return 1000 samples (N,) of a head trained on `targets` (N,), all for the same context."""
    optimiser = torch.optim.Adam(head.parameters(), lr=3e-3)
    rng = torch.Generator().manual_seed(4)
    for _ in range(steps):
        batch = targets[torch.randint(len(targets), (64,), generator=rng)][:, None, None]
        optimiser.zero_grad()
        head.loss(context_of(64), batch, torch.ones(64, 1, dtype=torch.bool), rng=rng).mean().backward()
        optimiser.step()
    with torch.no_grad():
        return head.eval().sample(context_of(1000), rng=torch.Generator().manual_seed(5))[:, 0, 0]


def test_flow_covers_two_modes_where_regression_predicts_the_empty_middle() -> None:
    config = Flow(denoiser=Mlp(hidden=64, blocks=2), draws=1)
    two = torch.tensor([-1.0, 1.0])
    flow = trained(head_of(config), two)
    near = ((flow - 1).abs() < 0.3).float().mean(), ((flow + 1).abs() < 0.3).float().mean()
    assert min(near) > 0.35 and sum(near) > 0.85, f"shares near +1 and -1: {near}"
    torch.manual_seed(0)
    regression = trained(Regression(blocks=1).build(action_width=1, pred_horizon=1, width=WIDTH), two, steps=200)
    assert regression.abs().max() < 0.4 and regression.std() < 1e-4, "the mean, for every draw"
    one = trained(head_of(config), torch.tensor([1.0]), steps=300)
    assert ((one - 1).abs() < 0.3).float().mean() > 0.95, "one mode in the data stays one mode"


@pytest.mark.parametrize("integrator", ["midpoint", "heun"])
def test_integrators_of_second_order_need_fewer_steps(integrator: Integrator, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the exact field of Gaussian data, 20 evaluations come nearer to the spread of 0.5 than 20 of Euler."""

    def exact(x: Tensor, t: Tensor, context: Context) -> Tensor:
        t = t[:, None, None]
        return x * (t * 0.25 - (1 - t)) / (t**2 * 0.25 + (1 - t) ** 2)

    errors = {}
    for config in (Flow(steps=20), Flow(steps=10, integrator=integrator)):
        head = head_of(config)
        monkeypatch.setattr(head, "velocity", exact)
        noise = torch.randn(100, 1, 1, generator=torch.Generator().manual_seed(1))
        samples = head.sample(context_of(100), rng=torch.Generator().manual_seed(1))
        errors[config.integrator] = (samples - 0.5 * noise).abs().max().item()
    assert errors[integrator] < 0.5 * errors["euler"]


def test_euler_steps_are_those_of_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    """There sigma is 1 - t and the velocity points from data to noise."""
    head = head_of(Flow(steps=7), horizon=3, actions=2)
    monkeypatch.setattr(head, "velocity", lambda x, t, context: torch.sin(3 * x) - t[:, None, None])
    samples = head.sample(context_of(5), rng=torch.Generator().manual_seed(1))
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=[1 - k / 7 for k in range(7)])
    x = torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(1))
    for sigma, t in zip(scheduler.sigmas, scheduler.timesteps, strict=False):
        x = scheduler.step(-(torch.sin(3 * x) - (1 - sigma)), t, x).prev_sample
    assert (samples - x).abs().max() < 1e-6


def test_one_step_is_the_mean_whatever_the_noise() -> None:
    """At t = 0 the best velocity is mean - noise, so an undistilled flow of one step is a regression."""
    two = torch.tensor([-1.0, 1.0, 1.0])
    config = Flow(denoiser=Mlp(hidden=64, blocks=2), draws=1, steps=1)
    head = head_of(config)
    samples = trained(head, two, steps=400)
    assert samples.mean().item() == pytest.approx(1 / 3, abs=0.15)
    assert samples.std() < 0.35, "as good as one action"
    ten = head_of(replace(config, steps=10))
    ten.load_state_dict(head.state_dict())
    with torch.no_grad():
        assert ten.eval().sample(context_of(1000), rng=torch.Generator().manual_seed(5)).std() > 0.75, "two modes"


def test_guidance_moves_from_all_modes_to_the_one_asked_for() -> None:
    """The readout says which of two modes; without it (scale 0) both are drawn, at 1 and beyond the asked one only."""
    sides = torch.tensor([-1.0, 1.0]).repeat(128)
    readout = (sides[:, None, None] * torch.ones(256, 1, WIDTH)).contiguous()
    context = Context(readout, torch.ones(256, 1, dtype=torch.bool), {"action": readout})
    denoiser = Mlp(hidden=64, blocks=2)
    head = head_of(Flow(denoiser=denoiser, draws=1, guidance=Guidance(dropout=0.3)))
    optimiser = torch.optim.Adam(head.parameters(), lr=3e-3)
    rng = torch.Generator().manual_seed(4)
    for _ in range(300):
        optimiser.zero_grad()
        data = sides[:, None, None] + 0.1 * torch.randn(256, 1, 1, generator=rng)
        head.loss(context, data, torch.ones(256, 1, dtype=torch.bool), rng=rng).mean().backward()
        optimiser.step()
    agree = {}
    for scale in (0.0, 1.0, 2.0):
        acting = head_of(Flow(denoiser=denoiser, guidance=Guidance(dropout=0.3, scale=scale)))
        acting.load_state_dict(head.state_dict())
        with torch.no_grad():
            samples = acting.eval().sample(context, rng=torch.Generator().manual_seed(5))[:, 0, 0]
        agree[scale] = (samples.sign() == sides).float().mean().item()
    assert abs(agree[0.0] - 0.5) < 0.15 and agree[1.0] > 0.97 and agree[2.0] > 0.99


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(KinemaError, match="steps 0 and draws 4 must be at least 1"):
        head_of(Flow(steps=0))
    with pytest.raises(KinemaError, match="draws 0"):
        head_of(Flow(draws=0))
    with pytest.raises(KinemaError, match="unknown integrator 'hein'; did you mean 'heun'"):
        head_of(Flow(integrator="hein"))  # type: ignore[arg-type]
    with pytest.raises(KinemaError, match="unknown time of a flow 'bta'; did you mean 'beta'"):
        head_of(Flow(time="bta"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2 generators for a batch of 3"):
        head_of(Flow()).sample(context_of(3), rng=[torch.Generator(), torch.Generator()])
