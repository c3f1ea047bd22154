"""A mixture of Gaussians over whole chunks (Mandlekar et al. 2021, robomimic; there over single actions).

A mode is a whole chunk: a chunk that begins on the left of an obstacle also ends there. A mixture over single steps is
the same head with `pred_horizon` 1. Actions must be scaled to [-1, 1], as the means are within a tanh.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from kinema.core.errors import KinemaError, unknown
from kinema.heads.base import HasLogProb, Head, HeadConfig
from kinema.nets.base import Context
from kinema.nets.blocks import ResidualMlp
from kinema.nets.noise import Rng, draw, normal, uniform

Noise = Literal["low", "full"]
_LOW_STD = 1e-4


@dataclass(frozen=True, kw_only=True)
class Gmm(HeadConfig):
    """`modes` diagonal Gaussians over the chunk; `noise` "low" acts with their means, std 1e-4, "full" with their std.

    Which mode is drawn either way. The density, and with it the loss, is always of the full mixture.
    """

    modes: int = 5
    min_std: float = 1e-4
    noise: Noise = "low"
    blocks: int = 3

    @property
    def bounded(self) -> bool:
        """The means are within a tanh."""
        return True

    def build(self, *, action_width: int, pred_horizon: int, width: int) -> GmmHead:
        """Return the head."""
        if self.modes < 1 or not self.min_std > 0:
            raise KinemaError(f"gmm: modes {self.modes} must be at least 1, min_std {self.min_std} above 0")
        if self.noise not in get_args(Noise):
            raise unknown("noise of a gmm", self.noise, get_args(Noise))
        return GmmHead(self, action_width=action_width, pred_horizon=pred_horizon, width=width)


class GmmHead(Head, HasLogProb):
    """Readout `action` (B, 1, D) to the weights, means and standard deviations of K chunks."""

    def __init__(self, config: Gmm, *, action_width: int, pred_horizon: int, width: int) -> None:
        super().__init__()
        self.config = config
        self.shape = (config.modes, pred_horizon, action_width)
        self.predict = ResidualMlp(width, 2 * math.prod(self.shape) + config.modes, blocks=config.blocks)

    def mixture(self, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        """Return the log-weights (B, K), and the means and standard deviations (B, K, H, A)."""
        numbers, size = self.predict(context.readout["action"][:, 0]).float(), math.prod(self.shape)
        logits, mean, raw_std = numbers.split([self.config.modes, size, size], dim=-1)
        std = F.softplus(raw_std) + self.config.min_std
        return logits.log_softmax(-1), mean.tanh().view(-1, *self.shape), std.view(-1, *self.shape)

    def log_prob(self, context: Context, action: Tensor, mask: Tensor) -> Tensor:
        """Return the log-density (B, H) of each step given those before it; see `HasLogProb`.

        Every step weighs the modes by how well they explain the steps before: a filter over modes, whose product over
        steps is the mixture over chunks.
        """
        log_weights, mean, std = self.mixture(context)
        real = (mask if mask.ndim == 3 else mask[..., None]).expand_as(action)
        value = torch.where(real, action, 0.0)[:, None]
        density = -0.5 * ((value - mean) / std).square() - std.log() - 0.5 * math.log(2 * math.pi)
        step = torch.where(real[:, None], density, 0.0).sum(-1)  # (B, K, H)
        before = F.pad(step.cumsum(-1)[..., :-1], (1, 0))
        posterior = (log_weights[..., None] + before).log_softmax(1)
        return (posterior + step).logsumexp(1) * real.any(-1)

    def loss(self, context: Context, action: Tensor, mask: Tensor, *, rng: Rng) -> Tensor:
        """Return the negative log-density of each step given those before it."""
        return -self.log_prob(context, action, mask)

    def sample(self, context: Context, *, rng: Rng) -> Tensor:
        """Return chunks around the mean of one drawn mode each."""
        log_weights, mean, std = self.mixture(context)
        noise = uniform((len(mean), 1), rng, mean.device)
        which = draw(log_weights, noise)[..., None, None].expand(-1, 1, *self.shape[1:])
        mean, std = mean.gather(1, which)[:, 0], std.gather(1, which)[:, 0]
        scale = std if self.config.noise == "full" else _LOW_STD
        return mean + scale * normal(mean.shape, rng, mean.device)
