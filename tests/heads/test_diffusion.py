"""Diffusion: its loss by hand, what it keeps of the Fork, and settings that cannot work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from kinema.core.errors import KinemaError
from kinema.heads.diffusion import Diffusion, DiffusionHead
from kinema.heads.regression import Regression
from kinema.nets.base import Context
from kinema.nets.denoisers.mlp import Mlp
from kinema.nets.denoisers.unet1d import Unet1d
from kinema.nets.schedules import Prediction, signal
from kinema.sim.fork import Fork

WIDTH = 8


def context_of(batch: int) -> Context:
    readout = torch.ones(batch, 1, WIDTH)
    return Context(tokens=readout, mask=torch.ones(batch, 1, dtype=torch.bool), readout={"action": readout})


def head_of(config: Diffusion, horizon: int = 2, actions: int = 2) -> DiffusionHead:
    torch.manual_seed(0)
    return config.build(action_width=actions, pred_horizon=horizon, width=WIDTH)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v"])
def test_loss_by_hand(prediction: Prediction, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a denoiser that says 3 x + t the loss follows from the noise and steps that the generator gives."""
    head = head_of(Diffusion(draws=2, train_steps=10, prediction=prediction, clip=9.0))

    def field(x: Tensor, t: Tensor, context: Context) -> Tensor:
        return 3 * x + t[:, None, None]

    monkeypatch.setattr(head.net.denoiser, "forward", field)
    action = torch.tensor([[[1.0, -2.0], [0.5, 4.0]]])
    loss = head.loss(context_of(1), action, torch.tensor([[True, False]]), rng=torch.Generator().manual_seed(3))

    rng = torch.Generator().manual_seed(3)
    noise = torch.randn(2, 2, 2, generator=rng).double().numpy()[:, 0]
    k = (10 * scipy.stats.norm.cdf(torch.randn(2, 1, generator=rng).double().numpy()[:, 0])).astype(int)
    level = signal("squaredcos_cap_v2", 10).double().numpy()[k][:, None]
    data = action[0, 0].double().numpy()
    x = np.sqrt(level) * data + np.sqrt(1 - level) * noise
    wanted = {
        "epsilon": noise,
        "sample": data + 0 * noise,
        "v": np.sqrt(level) * noise - np.sqrt(1 - level) * data,
    }
    assert loss[0, 0].item() == pytest.approx(np.mean((3 * x + k[:, None] / 10 - wanted[prediction]) ** 2), rel=1e-4)
    assert loss[0, 1].item() == 0


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm_solver++"])
def test_exact_prediction_of_gaussian_data_gives_its_spread(sampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For data N(0, 0.5^2) E[a | x] = sqrt(abar) s^2 x / (abar s^2 + 1 - abar); all samplers must come near 0.5."""
    steps = 100 if sampler == "ddpm" else 50
    config = Diffusion(sampler=sampler, steps=steps, prediction="sample", denoiser=Mlp(hidden=4, blocks=1))  # type: ignore[arg-type]
    head = head_of(config)

    def exact(x: Tensor, t: Tensor, context: Context) -> Tensor:
        level = head.signal[(t * 100).round().long()][:, None, None]
        return level**0.5 * 0.25 * x / (level * 0.25 + 1 - level)

    monkeypatch.setattr(head.net, "guided", exact)
    samples = head.sample(context_of(5000), rng=torch.Generator().manual_seed(1))
    assert samples.std().item() == pytest.approx(
        0.5, abs=0.015 if sampler != "ddpm" else 0.03
    )  # its variance is the smaller bound


def test_the_published_size_takes_no_memory_on_the_meta_device() -> None:
    with torch.device("meta"):
        head = Diffusion(denoiser=Unet1d()).build(action_width=2, pred_horizon=16, width=40)
    assert all(parameter.is_meta for parameter in head.parameters()) and head.steps[-1][1] == 1.0


def test_both_ways_around_the_fork_are_kept_where_regression_drives_into_it(fit: Callable[..., Any]) -> None:
    fork = Fork(horizon=4)
    fitted = fit(Diffusion(denoiser=Mlp(hidden=64, blocks=2), draws=1), fork, steps=500, seed=0)
    modes = fork.judge(fitted.sample(400, 1))
    assert modes.cover > 0.3 and modes.invalid < 0.4, modes
    assert fork.judge(fit(Regression(blocks=1), fork, steps=150, seed=0).sample(50, 1)).invalid > 0.9


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Diffusion(draws=0), "draws 0 must be at least 1"),
        (Diffusion(eta=1.5), r"eta 1.5 in \[0, 1\]"),
        (Diffusion(clip=0.0), "clip 0.0 above 0"),
        (Diffusion(eta=0.5, sampler="ddpm"), "eta 0.5 is for the sampler 'ddim', not 'ddpm'"),
        (Diffusion(spacing="trailing"), "needs a clip to begin at step 99 of 100, where its errors count 20.. times"),
        (
            Diffusion(steps=1),
            "1 'leading' steps begin at step 0 of 100, where 100% .* be signal.*\nfix: spacing 'trailing'",
        ),
        (Diffusion(sampler="ddpm", steps=100), "needs a clip to begin at step 99 of 100.*\nfix: clip 1.0"),
        (Diffusion(betas="linear"), "linear betas from 1e-4 to 0.02 are made for train_steps 1000; with 100"),
        (Diffusion(steps=0), "steps 0 must be at least 1"),
    ],
)
def test_impossible_settings_are_refused(config: Diffusion, message: str) -> None:
    with pytest.raises(KinemaError, match=message):
        head_of(config)
