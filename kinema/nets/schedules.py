"""Diffusion in T steps: how noisy each is, and how samplers go back.

Step k of T holds x = sqrt(abar_k) a + sqrt(1 - abar_k) eps; k = 0 is the least noisy. Every sampler here is a table of
five numbers per step (`Steps`). Computed in float32 and in the order that `diffusers` uses, so that the numbers are
those with which published checkpoints were made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from kinema.core.errors import KinemaError, unknown

Betas = Literal["squaredcos_cap_v2", "linear"]
Prediction = Literal["epsilon", "sample", "v"]
Sampler = Literal["ddpm", "ddim", "dpm_solver++"]
Spacing = Literal["leading", "trailing"]

LINEAR_STEPS = 1000


def betas(kind: Betas, steps: int) -> Tensor:
    """Return beta (T,) of each of `steps` training steps.

    "squaredcos_cap_v2" has abar(u) = cos^2((u + 0.008) / 1.008 pi / 2), beta capped at 0.999 (Nichol & Dhariwal 2021).
    "linear" from 1e-4 to 0.02 (Ho et al. 2020) reaches noise in 1000 steps only; another number is a KinemaError.
    """
    if steps < 2:
        raise KinemaError(f"diffusion: train_steps {steps} must be at least 2")
    if kind == "linear":
        if steps != LINEAR_STEPS:
            left = math.sqrt(float(torch.linspace(1e-4, 0.02, steps, dtype=torch.float64).neg().add(1).prod()))
            raise KinemaError(
                f"diffusion: linear betas from 1e-4 to 0.02 are made for train_steps {LINEAR_STEPS}; with {steps} the "
                f"noisiest step still holds {left:.0%} of the action, but acting starts from pure noise\n"
                f"fix: betas 'squaredcos_cap_v2', or train_steps {LINEAR_STEPS}"
            )
        return torch.linspace(1e-4, 0.02, steps)
    if kind != "squaredcos_cap_v2":
        raise unknown("betas", kind, get_args(Betas))
    level = [math.cos((k / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for k in range(steps + 1)]
    return torch.tensor([min(1 - after / before, 0.999) for before, after in pairwise(level)])


def signal(kind: Betas, steps: int) -> Tensor:
    """Return abar (T,), the share of the variance that is signal at each training step."""
    return torch.cumprod(1.0 - betas(kind, steps), dim=0)


def visited(spacing: Spacing, *, train_steps: int, steps: int) -> Tensor:
    """Return the training steps (N,) int64 that a sampler of `steps` steps visits, the noisiest first.

    "trailing" begins at the noisiest step, as acting begins with pure noise; "leading" ends at step 0 and begins below
    the noisiest: at 90 of 100 for ten steps, where 14 % of the action should already be there (Lin et al. 2024).
    """
    if not 1 <= steps <= train_steps:
        raise KinemaError(f"diffusion: steps {steps} must be at least 1 and at most train_steps {train_steps}")
    if spacing == "leading":
        return torch.arange(steps).flip(0) * (train_steps // steps)
    if spacing != "trailing":
        raise unknown("spacing", spacing, get_args(Spacing))
    return torch.tensor([round(train_steps - index * train_steps / steps) - 1 for index in range(steps)])


@dataclass(frozen=True)
class Steps:
    """The way back: x' = keep x + clean a + noise eps + before a' + fresh z, each (N,) for N steps.

    a and eps are what the network predicts at this step, a' what it predicted for the clean action one step before,
    and z is drawn.
    """

    keep: Tensor
    clean: Tensor
    noise: Tensor
    before: Tensor
    fresh: Tensor

    def rows(self) -> list[tuple[float, float, float, float, float]]:
        """Return the five numbers of each step."""
        return list(zip(*(column.tolist() for column in vars(self).values()), strict=True))


def steps_back(sampler: Sampler, here: Tensor, after: Tensor, *, eta: float = 0.0) -> Steps:
    """Return the table of `sampler` for going from abar `here` (N,) to abar `after` (N,), which ends with 1.

    "ddpm" draws in every step but the last (Ho et al. 2020, eq. 7, variance "fixed small"); "ddim" draws `eta` times
    as much (Song et al. 2021, eq. 12 and 16); "dpm_solver++" is 2M of Lu et al. 2022, first and last step of order 1.
    """
    if sampler == "ddpm":
        return _ddpm(here, after)
    if sampler == "ddim":
        return _ddim(here, after, eta)
    if sampler == "dpm_solver++":
        return _dpm_solver(here, after)
    raise unknown("sampler", sampler, get_args(Sampler))


def _ddpm(here: Tensor, after: Tensor) -> Steps:
    alpha = here / after
    beta = 1 - alpha
    variance = ((1 - after) / (1 - here) * beta).clamp(min=1e-20)
    nothing = torch.zeros_like(here)
    return Steps(
        keep=alpha**0.5 * (1 - after) / (1 - here),
        clean=after**0.5 * beta / (1 - here),
        noise=nothing,
        before=nothing,
        fresh=torch.where(after < 1, variance**0.5, 0.0),
    )


def _ddim(here: Tensor, after: Tensor, eta: float) -> Steps:
    variance = (1 - after) / (1 - here) * (1 - here / after)
    fresh = eta * variance**0.5
    nothing = torch.zeros_like(here)
    return Steps(keep=nothing, clean=after**0.5, noise=(1 - after - fresh**2) ** 0.5, before=nothing, fresh=fresh)


def _dpm_solver(here: Tensor, after: Tensor) -> Steps:
    # Half the log signal-to-noise ratio; infinite after the last step, whose exp(-h) is 0.
    half_here, half_after = (0.5 * (torch.log(level) - torch.log(1 - level)) for level in (here, after))
    h = half_after - half_here
    gain = -(after**0.5) * torch.expm1(-h)
    ratio = torch.cat([torch.zeros(1), 0.5 * h[1:] / h[:-1]])  # 1 / (2 r) of eq. 17
    ratio[-1] = 0.0
    nothing = torch.zeros_like(here)
    return Steps(
        keep=((1 - after) / (1 - here)) ** 0.5,
        clean=gain * (1 + ratio),
        noise=nothing,
        before=-gain * ratio,
        fresh=nothing,
    )


def target(prediction: Prediction, action: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """Return what a network learns to say at abar `level`: the noise, the action, or v (Salimans & Ho 2022)."""
    if prediction == "epsilon":
        return noise
    return action if prediction == "sample" else level**0.5 * noise - (1 - level) ** 0.5 * action


def split(prediction: Prediction, predicted: Tensor, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Return the clean action and the noise that `predicted` means for `x` at abar `level`."""
    strength, spread = level**0.5, (1 - level) ** 0.5
    if prediction == "epsilon":
        return (x - spread * predicted) / strength, predicted
    if prediction == "sample":
        return predicted, (x - strength * predicted) / spread
    return strength * x - spread * predicted, strength * predicted + spread * x


def check_prediction(name: str) -> None:
    """Raise KinemaError unless `name` is something that a network can predict."""
    if name not in get_args(Prediction):
        raise unknown("prediction", name, get_args(Prediction))
