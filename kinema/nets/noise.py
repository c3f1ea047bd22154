"""Randomness as an argument: noise that is the same whatever else is in the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Rng = torch.Generator | Sequence[torch.Generator]
"""One generator for a whole batch, or one per entry, so that an episode's noise does not depend on its neighbours."""


def normal(shape: Sequence[int], rng: Rng, device: torch.device) -> Tensor:
    """Return standard normal noise of `shape` from `rng`; with one generator an entry, each fills its own row."""
    if isinstance(rng, torch.Generator):
        return torch.randn(*shape, generator=rng, device=rng.device).to(device)
    rows = [torch.randn(*shape[1:], generator=generator, device=generator.device) for generator in rng]
    if len(rows) != shape[0]:
        raise ValueError(f"{len(rows)} generators for a batch of {shape[0]}")
    return torch.stack(rows).to(device)


def repeated_rng(rng: Rng, draws: int) -> Rng:
    """Return `rng` for a batch in which every entry stands `draws` times, one after the other."""
    return rng if isinstance(rng, torch.Generator) else [generator for generator in rng for _ in range(draws)]


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
