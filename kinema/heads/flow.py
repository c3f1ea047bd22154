"""Conditional flow matching over action chunks (Lipman et al. 2023; for robots Black et al. 2024, pi0).

t = 0 is noise, t = 1 is data. Training draws eps ~ N(0, I) and t, forms x_t = (1 - t) eps + t a, and regresses the
velocity a - eps; acting integrates dx/dt = v(x, t) from noise with Euler steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from kinema.core.errors import KinemaError
from kinema.heads.base import Head, HeadConfig, step_mean
from kinema.nets.base import Context, Rng, normal
from kinema.nets.blocks import ResidualBlock, sinusoidal


@dataclass(frozen=True, kw_only=True)
class Flow(HeadConfig):
    """`steps` Euler steps when acting; `draws` pairs of noise and time share one encoded observation in training.

    `time` is how t is drawn: "beta" puts more weight on noisy times, 1 - (0.999 Beta(1.5, 1) + 0.001) as in pi0.
    """

    hidden: int = 256
    blocks: int = 3
    steps: int = 10
    draws: int = 4
    time: Literal["uniform", "beta"] = "beta"

    def build(self, *, action_width: int, pred_horizon: int, width: int) -> FlowHead:
        """Return the head."""
        if self.steps < 1 or self.draws < 1:
            raise KinemaError(f"flow: steps {self.steps} and draws {self.draws} must be at least 1")
        return FlowHead(self, action_width=action_width, pred_horizon=pred_horizon, width=width)


class FlowHead(Head):
    """Readout `action` (B, 1, D) conditions a residual MLP that predicts the velocity of a chunk (B, H, A)."""

    def __init__(self, config: Flow, *, action_width: int, pred_horizon: int, width: int) -> None:
        super().__init__()
        self.config = config
        self.shape = (pred_horizon, action_width)
        size = pred_horizon * action_width
        self.time = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.enter = nn.Linear(size + width, config.hidden)
        self.blocks = nn.ModuleList([ResidualBlock(config.hidden, condition_width=width) for _ in range(config.blocks)])
        self.leave = nn.Sequential(nn.LayerNorm(config.hidden), nn.Linear(config.hidden, size))

    def velocity(self, x: Tensor, t: Tensor, readout: Tensor) -> Tensor:
        """Return the predicted velocity (B, H, A) at chunks `x` (B, H, A) and times `t` (B,) for `readout` (B, D)."""
        condition = readout + self.time(sinusoidal(t, 64).to(readout.dtype))
        hidden = self.enter(torch.cat([x.flatten(1).to(readout.dtype), readout], dim=-1))
        for block in self.blocks:
            hidden = block(hidden, nn.functional.silu(condition))
        return self.leave(hidden).float().view(-1, *self.shape)

    def loss(self, context: Context, action: Tensor, mask: Tensor, *, rng: torch.Generator) -> Tensor:
        """Return the squared velocity error averaged over action components and draws, per step."""
        draws = self.config.draws
        readout = context.readout["action"][:, 0].repeat_interleave(draws, dim=0)
        target = action.repeat_interleave(draws, dim=0)
        noise = normal(target.shape, rng, target.device)
        t = self._times(len(target), rng, target.device)
        # Padding is noise at every t: what it holds must not reach the real steps through the chunk.
        real = mask.repeat_interleave(draws, dim=0)
        x = torch.where(real if real.ndim == 3 else real[..., None], torch.lerp(noise, target, t[:, None, None]), noise)
        error = step_mean((self.velocity(x, t, readout) - (target - noise)).square(), real)
        return error.view(len(action), draws, -1).mean(1)

    def _times(self, count: int, rng: Rng, device: torch.device) -> Tensor:
        # Phi(z) of a normal draw is uniform: one kind of noise is enough, whatever the generator's layout.
        uniform = torch.special.ndtr(normal((count, 1), rng, device)[:, 0])
        if self.config.time == "uniform":
            return uniform
        return 1.0 - (0.999 * uniform ** (1 / 1.5) + 0.001)  # Beta(1.5, 1) has the inverse distribution u^(2/3)

    def sample(self, context: Context, *, rng: Rng) -> Tensor:
        """Return chunks integrated from noise in `steps` Euler steps."""
        readout = context.readout["action"][:, 0]
        x = normal((len(readout), *self.shape), rng, readout.device)
        dt = 1.0 / self.config.steps
        for index in range(self.config.steps):
            t = torch.full((len(x),), index * dt, device=x.device)
            x = x + dt * self.velocity(x, t, readout)
        return x
