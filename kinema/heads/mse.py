"""Regression by mean squared error: predicts the average of what was demonstrated.

Two ways around an obstacle become the obstacle between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kinema.heads.base import Head, HeadConfig, step_mean
from kinema.nets.base import Context, Rng
from kinema.nets.blocks import ResidualBlock


@dataclass(frozen=True, kw_only=True)
class Mse(HeadConfig):
    """`blocks` residual blocks, then one linear layer for the whole chunk."""

    blocks: int = 3

    def build(self, *, action_width: int, pred_horizon: int, width: int) -> MseHead:
        """Return the head."""
        return MseHead(self, action_width=action_width, pred_horizon=pred_horizon, width=width)


class MseHead(Head):
    """Readout `action` (B, 1, D) to a chunk (B, H, A)."""

    def __init__(self, config: Mse, *, action_width: int, pred_horizon: int, width: int) -> None:
        super().__init__()
        self.shape = (pred_horizon, action_width)
        self.blocks = nn.ModuleList([ResidualBlock(width) for _ in range(config.blocks)])
        self.project = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, pred_horizon * action_width))

    def loss(self, context: Context, action: Tensor, mask: Tensor, *, rng: torch.Generator) -> Tensor:
        """Return the squared error averaged over action components, per step."""
        return step_mean((self._predict(context) - action).square(), mask)

    def sample(self, context: Context, *, rng: Rng) -> Tensor:
        """Return the prediction; `rng` is not needed, as there is nothing to draw."""
        return self._predict(context)

    def _predict(self, context: Context) -> Tensor:
        hidden = context.readout["action"][:, 0]
        for block in self.blocks:
            hidden = block(hidden)
        return self.project(hidden).float().view(-1, *self.shape)
