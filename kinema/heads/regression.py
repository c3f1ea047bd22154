"""Regression of one chunk: the mean (mse), the median (l1) or something between (huber) of what was demonstrated.

Two ways around an obstacle, taken equally often, become the obstacle between them under the squared error. The absolute
error is least at the median of every component: the way of the majority, and no particular one without a majority.
L1 for robots: Kim et al. 2025, "OpenVLA-OFT".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from kinema.core.errors import KinemaError, unknown
from kinema.heads._losses import step_mean
from kinema.heads.base import Head, HeadConfig
from kinema.nets.base import Context
from kinema.nets.blocks import ResidualMlp
from kinema.nets.noise import Rng

Loss = Literal["mse", "l1", "huber"]


@dataclass(frozen=True, kw_only=True)
class Regression(HeadConfig):
    """`blocks` residual blocks, then one linear layer for the whole chunk.

    "huber" is squared up to errors of `huber_delta` (in normalised action space) and absolute beyond.
    """

    loss: Loss = "mse"
    huber_delta: float = 1.0
    blocks: int = 3

    def build(self, *, action_width: int, pred_horizon: int, width: int) -> RegressionHead:
        """Return the head."""
        if self.loss not in get_args(Loss):
            raise unknown("regression loss", self.loss, get_args(Loss))
        if not self.huber_delta > 0:
            raise KinemaError(f"regression: huber_delta {self.huber_delta} must be above 0")
        return RegressionHead(self, action_width=action_width, pred_horizon=pred_horizon, width=width)


class RegressionHead(Head):
    """Readout `action` (B, 1, D) to a chunk (B, H, A)."""

    def __init__(self, config: Regression, *, action_width: int, pred_horizon: int, width: int) -> None:
        super().__init__()
        self.config = config
        self.shape = (pred_horizon, action_width)
        self.predict = ResidualMlp(width, pred_horizon * action_width, blocks=config.blocks)

    def loss(self, context: Context, action: Tensor, mask: Tensor, *, rng: Rng) -> Tensor:
        """Return the error averaged over action components, per step."""
        return step_mean(self._error(self._chunk(context), action), mask)

    def sample(self, context: Context, *, rng: Rng) -> Tensor:
        """Return the prediction; `rng` is not needed, as there is nothing to draw."""
        return self._chunk(context)

    def _chunk(self, context: Context) -> Tensor:
        return self.predict(context.readout["action"][:, 0]).float().view(-1, *self.shape)

    def _error(self, predicted: Tensor, action: Tensor) -> Tensor:
        if self.config.loss == "mse":
            return (predicted - action).square()
        if self.config.loss == "l1":
            return (predicted - action).abs()
        return F.huber_loss(predicted, action, reduction="none", delta=self.config.huber_delta)
