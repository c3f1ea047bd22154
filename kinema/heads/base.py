"""The contract of action heads: a loss for training and samples for acting, both in normalised action space."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from kinema.nets.base import Context, Rng


class Head(nn.Module, ABC):
    """Turns a context into chunks of `pred_horizon` actions."""

    @abstractmethod
    def loss(self, context: Context, action: Tensor, mask: Tensor, *, rng: torch.Generator) -> Tensor:
        """Return the loss of each step (B, H) for `action` (B, H, A).

        Steps where `mask` (B, H) is False are padding: they carry 0, and what they hold changes nothing. Where robots
        of different widths are mixed it is (B, H, A), and padded components change nothing either: see `step_mean`.
        """

    @abstractmethod
    def sample(self, context: Context, *, rng: Rng) -> Tensor:
        """Return one chunk of actions (B, H, A) for each batch entry."""


def step_mean(error: Tensor, mask: Tensor) -> Tensor:
    """Return the mean (B, H) of `error` (B, H, A) over the components that `mask` (B, H) or (B, H, A) keeps, or 0."""
    if mask.ndim == 2:
        return error.mean(-1) * mask
    return torch.where(mask, error, 0.0).sum(-1) / mask.sum(-1).clamp(min=1)


class HeadConfig(ABC):
    """Frozen description of a head."""

    @abstractmethod
    def build(self, *, action_width: int, pred_horizon: int, width: int) -> Head:
        """Return the module that reads a context of `width` and predicts `pred_horizon` actions of `action_width`."""
