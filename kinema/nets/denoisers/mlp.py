"""A residual MLP over the flattened chunk, modulated by time and readout: small, and enough for short chunks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kinema.nets.base import Context
from kinema.nets.blocks import ResidualBlock, sinusoidal
from kinema.nets.denoisers.base import Denoiser, DenoiserConfig, pooled


@dataclass(frozen=True, kw_only=True)
class Mlp(DenoiserConfig):
    """`blocks` residual blocks of `hidden` numbers."""

    hidden: int = 256
    blocks: int = 3

    def build(self, *, action_width: int, pred_horizon: int, width: int) -> MlpDenoiser:
        """Return the module."""
        return MlpDenoiser(self, action_width=action_width, pred_horizon=pred_horizon, width=width)


class MlpDenoiser(Denoiser):
    """Chunk and readout enter together; the sum of readout and time embedding modulates every block (FiLM)."""

    def __init__(self, config: Mlp, *, action_width: int, pred_horizon: int, width: int) -> None:
        super().__init__()
        size = pred_horizon * action_width
        self.time = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.enter = nn.Linear(size + width, config.hidden)
        self.blocks = nn.ModuleList([ResidualBlock(config.hidden, condition_width=width) for _ in range(config.blocks)])
        self.leave = nn.Sequential(nn.LayerNorm(config.hidden), nn.Linear(config.hidden, size))

    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        """Return the prediction (B, H, A)."""
        readout = pooled(context)
        condition = readout + self.time(sinusoidal(t, 64).to(readout.dtype))
        hidden = self.enter(torch.cat([x.flatten(1).to(readout.dtype), readout], dim=-1))
        for block in self.blocks:
            hidden = block(hidden, nn.functional.silu(condition))
        return self.leave(hidden).float().view(x.shape)
