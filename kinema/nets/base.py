"""The tensor-side contracts: encoders make tokens, a trunk turns them into a context, a head reads the context.

Letters: B batch, T observed steps, H predicted steps, N tokens, R readout tokens, D width, A action,
S vector, K keypoints.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kinema.core.spec import ObservationSpec

Rng = torch.Generator | Sequence[torch.Generator]
"""One generator for a whole batch, or one per entry, so that an episode's noise does not depend on its neighbours."""


@dataclass(frozen=True)
class Context:
    """What a trunk hands to a head."""

    tokens: Tensor  # (B, N, D)
    mask: Tensor  # (B, N) bool, False where a token is absent
    readout: Mapping[str, Tensor]  # name -> (B, R, D)
    positions: Tensor | None = None  # (N, D), what attention adds to `tokens` used as keys
    posterior: Tensor | None = None  # what a head that conditions the trunk hands to its own loss
    embodiment: Tensor | None = None  # (B,) int64, for heads with parts for several
    own: Tensor | None = None  # (B,) bool, which entries' chunks the head is asked for, where not all


class Encoder(nn.Module, ABC):
    """Turns one part of the sample into `tokens` tokens of the policy's width."""

    tokens: int

    @abstractmethod
    def forward(self, sample: Mapping[str, Any], condition: Tensor | None) -> Tensor:
        """Return tokens (B, `tokens`, D); `condition` is the mean token (B, D) of the encoder it names."""


class EncoderConfig(ABC):
    """Frozen description of an encoder; `condition` names the encoder that modulates this one, or is None."""

    condition: str | None

    def pinned(self) -> EncoderConfig:
        """Return this configuration with everything it takes from outside fixed by digest; most take nothing."""
        return self

    @property
    @abstractmethod
    def reads(self) -> tuple[str, ...]:
        """The keys of the sample that this encoder reads."""

    @abstractmethod
    def build(self, spec: ObservationSpec, *, obs_horizon: int, width: int) -> Encoder:
        """Return the module for these observations; raises SpecMismatch when they do not fit."""


class Trunk(nn.Module, ABC):
    """Fuses the tokens of all encoders."""

    @abstractmethod
    def forward(self, tokens: Tensor, mask: Tensor) -> Context:
        """Return the context for `tokens` (B, N, D) of which `mask` (B, N) are present."""


class TrunkConfig(ABC):
    """Frozen description of a trunk."""

    @abstractmethod
    def build(self, *, tokens: int, width: int) -> Trunk:
        """Return the module for `tokens` tokens of `width` numbers each."""


def normal(shape: Sequence[int], rng: Rng, device: torch.device) -> Tensor:
    """Return standard normal noise of `shape` from `rng`; with one generator an entry, each fills its own row."""
    if isinstance(rng, torch.Generator):
        return torch.randn(*shape, generator=rng, device=rng.device).to(device)
    rows = [torch.randn(*shape[1:], generator=generator, device=generator.device) for generator in rng]
    if len(rows) != shape[0]:
        raise ValueError(f"{len(rows)} generators for a batch of {shape[0]}")
    return torch.stack(rows).to(device)


def uniform(shape: Sequence[int], rng: Rng, device: torch.device) -> Tensor:
    """Return noise of `shape`, uniform in [0, 1]: the normal distribution function of `normal`, laid out like it."""
    return torch.special.ndtr(normal(shape, rng, device))


def draw(logits: Tensor, noise: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Return the indices (..., n) that `noise` (..., n), uniform in [0, 1], draws from `logits` (..., V).

    By inverse distribution function, of softmax(logits / temperature); temperature 0 is the most likely index.
    """
    if temperature == 0:
        return logits.argmax(-1, keepdim=True).expand(noise.shape)
    bounds = (logits.float() / temperature).softmax(-1).cumsum(-1)
    # Rounded sums end near 1: the noise is stretched to what they end at.
    return torch.searchsorted(bounds, noise * bounds[..., -1:], right=True).clamp(max=logits.shape[-1] - 1)
