"""The contract of denoisers: what diffusion, flow, consistency and rectified flow share, whatever they predict."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from kinema.nets.base import Context


class Denoiser(nn.Module, ABC):
    """Reads a noisy chunk, how noisy it is, and the context; if `reads_kv`, of its tokens what the trunk keeps."""

    reads_kv: bool = False

    @abstractmethod
    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        """Return (B, H, A) float32 for chunks `x` (B, H, A) at times `t` (B,) in [0, 1], each with its own context."""


class DenoiserConfig(ABC):
    """Frozen description of a denoiser."""

    @property
    def private_width(self) -> int | None:
        """How wide the head's private tokens are for it; None when it reads none, as most."""
        return None

    @abstractmethod
    def build(self, *, action_width: int, pred_horizon: int, width: int) -> Denoiser:
        """Return the module for chunks of these sizes and contexts of `width`; impossible sizes are KinemaErrors."""


def pooled(context: Context) -> Tensor:
    """Return the mean (B, D) of the readout tokens `action`."""
    return context.readout["action"].mean(1)
