"""Integrating dx/dt = v(x, t) from t = 0 to t = 1 in equal steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from kinema.core.errors import unknown

Velocity = Callable[[Tensor, Tensor], Tensor]
"""Maps chunks (B, H, A) and times (B,) to velocities (B, H, A)."""

Integrator = Literal["euler", "midpoint", "heun"]
"""Of order 1, 2 and 2; the latter two ask for the velocity twice a step."""


def check_integrator(name: str) -> None:
    """Raise KinemaError unless `name` is an integrator."""
    if name not in get_args(Integrator):
        raise unknown("integrator", name, get_args(Integrator))


def advance(velocity: Velocity, x: Tensor, t: Tensor, dt: float, integrator: Integrator) -> Tensor:
    """Return `x` (B, H, A) one step of `dt` after times `t` (B,)."""
    slope = velocity(x, t)
    if integrator == "midpoint":
        slope = velocity(x + 0.5 * dt * slope, t + 0.5 * dt)
    elif integrator == "heun":
        slope = 0.5 * (slope + velocity(x + dt * slope, t + dt))
    return x + dt * slope


def integrate(velocity: Velocity, x: Tensor, *, steps: int, integrator: Integrator = "euler") -> Tensor:
    """Return `x` (B, H, A) carried from t = 0 to t = 1 in `steps` steps."""
    for index in range(steps):
        x = advance(velocity, x, torch.full((len(x),), index / steps, device=x.device), 1 / steps, integrator)
    return x


def straightness(velocity: Velocity, noise: Tensor, *, steps: int) -> Tensor:
    """Return S (B,), the mean over time of (x_1 - x_0 - v(x_t, t))^2 along each path from `noise`, summed over (H, A).

    0 for straight paths, which one step follows exactly (Liu et al. 2023, section 2.2).
    """
    x, slopes = noise, []
    for index in range(steps):
        slopes.append(velocity(x, torch.full((len(x),), index / steps, device=x.device)))
        x = x + slopes[-1] / steps
    return ((x - noise) - torch.stack(slopes)).square().flatten(2).sum(-1).mean(0)
