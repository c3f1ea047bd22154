"""Schedules by published numbers, and every step of every sampler against diffusers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from kinema.core.errors import KinemaError
from kinema.heads.diffusion import Diffusion, DiffusionHead
from kinema.nets import schedules
from kinema.nets.base import Context
from kinema.nets.denoisers.mlp import Mlp

SHAPE = (3, 4, 2)


def test_cosine_schedule_of_a_hundred_steps() -> None:
    beta, signal = schedules.betas("squaredcos_cap_v2", 100), schedules.signal("squaredcos_cap_v2", 100)
    assert beta[[0, 50, 98, 99]].tolist() == pytest.approx([6.313e-4, 0.03155, 0.74994, 0.999], rel=2e-4)
    assert signal[[0, 50, 98, 99]].tolist() == pytest.approx([0.99937, 0.4783, 2.43e-4, 2.43e-7], rel=2e-3)


def test_cosine_schedules_of_other_lengths() -> None:
    beta, signal = schedules.betas("squaredcos_cap_v2", 1000), schedules.signal("squaredcos_cap_v2", 1000)
    assert beta[[0, 998]].tolist() == pytest.approx([4.128e-5, 0.75], rel=1e-3)
    assert signal[999].item() == pytest.approx(2.43e-9, rel=5e-3)
    assert schedules.betas("squaredcos_cap_v2", 20)[0].item() == pytest.approx(7.993e-3, rel=1e-3)
    assert schedules.signal("squaredcos_cap_v2", 20)[19].item() == pytest.approx(6.06e-6, rel=2e-3)


@pytest.mark.parametrize(("kind", "steps"), [("squaredcos_cap_v2", 20), ("squaredcos_cap_v2", 100), ("linear", 1000)])
def test_schedules_are_those_of_diffusers(kind: schedules.Betas, steps: int) -> None:
    oracle = DDPMScheduler(num_train_timesteps=steps, beta_schedule=kind, beta_start=1e-4, beta_end=0.02)
    assert (schedules.betas(kind, steps) - oracle.betas).abs().max() < 1e-7
    assert (schedules.signal(kind, steps) - oracle.alphas_cumprod).abs().max() < 1e-6


def test_linear_betas_belong_to_a_thousand_steps() -> None:
    assert schedules.signal("linear", 1000)[-1].item() == pytest.approx(4.04e-5, rel=2e-3)
    for steps, left in ((100, "60%"), (50, "78%"), (20, "90%")):
        with pytest.raises(KinemaError, match=f"train_steps 1000; with {steps} the noisiest step still holds {left}"):
            schedules.betas("linear", steps)


def test_visited_steps() -> None:
    leading = schedules.visited("leading", train_steps=100, steps=10)
    assert leading.tolist() == [90, 80, 70, 60, 50, 40, 30, 20, 10, 0]
    trailing = schedules.visited("trailing", train_steps=100, steps=10)
    assert trailing.tolist() == [99, 89, 79, 69, 59, 49, 39, 29, 19, 9]
    signal = schedules.signal("squaredcos_cap_v2", 100)
    assert signal[90].item() == pytest.approx(0.0195, abs=5e-5) and signal[99] < 2.5e-7
    for steps in (1, 5, 20, 100):
        for spacing in ("leading", "trailing"):
            oracle = DDIMScheduler(num_train_timesteps=100, timestep_spacing=spacing)
            oracle.set_timesteps(steps)
            assert torch.equal(oracle.timesteps, schedules.visited(spacing, train_steps=100, steps=steps))
    with pytest.raises(KinemaError, match="steps 101 must be at least 1 and at most train_steps 100"):
        schedules.visited("trailing", train_steps=100, steps=101)


def field(x: Tensor, t: Tensor) -> Tensor:
    """A prediction that depends on the chunk and the time."""
    return torch.tanh(1.5 * x) * (0.3 + t[:, None, None]) + 0.1


def path_of(config: Diffusion) -> list[Tensor]:
    """Return what the denoiser is shown at each step, and at the end the sample."""
    head: DiffusionHead = config.build(action_width=2, pred_horizon=4, width=4)
    seen: list[Tensor] = []

    def recorded(x: Tensor, t: Tensor, context: Context) -> Tensor:
        seen.append(x)
        return field(x, t)

    head.net.guided = recorded  # type: ignore[method-assign, assignment]
    readout = torch.zeros(3, 1, 4)
    context = Context(readout, torch.ones(3, 1, dtype=torch.bool), {"action": readout})
    sample = head.sample(context, rng=torch.Generator().manual_seed(1))
    return [*seen, sample]


def oracle_path(scheduler: Any, config: Diffusion, step: Callable[..., Any]) -> list[Tensor]:
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(*SHAPE, generator=rng)
    shown = []
    for k in scheduler.timesteps:
        shown.append(x)
        x = step(field(x, torch.full((3,), int(k) / config.train_steps)), k, x, rng)
    return [*shown, x]


CASES = [
    Diffusion(sampler=sampler, steps=steps, prediction=prediction, clip=clip, spacing=spacing, eta=eta)
    for sampler, steps, eta in (("ddpm", 100, 0.0), ("ddpm", 10, 0.0), ("ddim", 10, 0.0), ("ddim", 20, 0.7))
    for prediction, clip in (("epsilon", 1.0), ("sample", None), ("v", None))
    for spacing in ("leading", "trailing")
] + [
    Diffusion(
        sampler="dpm_solver++", steps=steps, prediction=prediction, spacing=spacing, train_steps=total, betas=kind
    )
    for prediction in ("sample", "v")
    for steps, spacing, total, kind in (
        (5, "trailing", 1000, "linear"),
        (10, "leading", 100, "squaredcos_cap_v2"),
        (20, "trailing", 100, "squaredcos_cap_v2"),
    )
]


@pytest.mark.parametrize("config", CASES, ids=lambda c: f"{c.sampler}-{c.steps}-{c.prediction}-{c.spacing}-{c.eta}")
def test_every_step_is_that_of_diffusers(config: Diffusion) -> None:
    common = {
        "num_train_timesteps": config.train_steps,
        "beta_schedule": config.betas,
        "prediction_type": "v_prediction" if config.prediction == "v" else config.prediction,
        "beta_start": 1e-4,
        "beta_end": 0.02,
    }
    visited = schedules.visited(config.spacing, train_steps=config.train_steps, steps=config.steps)
    if config.sampler == "dpm_solver++":
        solver = DPMSolverMultistepScheduler(**common)
        solver.set_timesteps(timesteps=visited.tolist())
        expected = oracle_path(solver, config, lambda out, k, x, rng: solver.step(out, k, x).prev_sample)
    else:
        clipping = {"clip_sample": config.clip is not None, "clip_sample_range": config.clip or 1.0}
        given: dict[str, Any] = {} if config.sampler == "ddpm" else {"eta": config.eta}
        scheduler = (DDPMScheduler if config.sampler == "ddpm" else DDIMScheduler)(
            **common, **clipping, timestep_spacing=config.spacing
        )
        scheduler.set_timesteps(config.steps)
        expected = oracle_path(
            scheduler, config, lambda out, k, x, rng: scheduler.step(out, k, x, generator=rng, **given).prev_sample
        )
        assert torch.equal(scheduler.timesteps, visited)
    for step, (ours, theirs) in enumerate(zip(path_of(config), expected, strict=True)):
        scale = max(1.0, theirs.abs().max().item())
        assert (ours - theirs).abs().max().item() < 1e-6 * scale, f"step {step} of {config.steps}"


def test_predictions_mean_the_same_action_and_noise() -> None:
    rng = torch.Generator().manual_seed(1)
    action, noise = torch.randn(2, *SHAPE, generator=rng)
    level = torch.tensor([0.9, 0.5, 0.01])[:, None, None]
    x = level**0.5 * action + (1 - level) ** 0.5 * noise
    for prediction in ("epsilon", "sample", "v"):
        told = schedules.target(prediction, action, noise, level)
        clean, eps = schedules.split(prediction, told, x, level)
        assert torch.allclose(clean, action, atol=1e-5) and torch.allclose(eps, noise, atol=1e-5)


def test_a_network_that_knows_the_action_reaches_it_in_every_sampler() -> None:
    """With the prediction of one and the same clean chunk all samplers end there exactly."""
    for sampler in ("ddpm", "ddim", "dpm_solver++"):
        head = Diffusion(sampler=sampler, prediction="sample", denoiser=Mlp(hidden=8, blocks=1)).build(
            action_width=2, pred_horizon=4, width=4
        )
        known = torch.randn(*SHAPE, generator=torch.Generator().manual_seed(2))
        head.net.guided = lambda x, t, context, known=known: known  # type: ignore[method-assign, misc]
        readout = torch.zeros(3, 1, 4)
        context = Context(readout, torch.ones(3, 1, dtype=torch.bool), {"action": readout})
        assert torch.allclose(head.sample(context, rng=torch.Generator().manual_seed(1)), known, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: schedules.betas("cosine", 10), "unknown betas 'cosine'.*\nknown: linear, squaredcos_cap_v2"),
        (lambda: schedules.betas("squaredcos_cap_v2", 1), "train_steps 1 must be at least 2"),
        (lambda: schedules.visited("tailing", train_steps=10, steps=5), "unknown spacing 'tailing'; did you mean"),
        (
            lambda: schedules.steps_back("dim", torch.ones(1), torch.ones(1)),
            "unknown sampler 'dim'; did you mean 'ddim'",
        ),
        (lambda: schedules.check_prediction("eps"), "unknown prediction 'eps'; did you mean 'epsilon'"),
    ],
)
def test_impossible_schedules_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(KinemaError, match=message):
        call()
