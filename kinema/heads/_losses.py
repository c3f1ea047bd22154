"""What losses of heads share: means over what is real, and teachers that must not draw anything."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kinema.core.errors import KinemaError


def step_mean(error: Tensor, mask: Tensor) -> Tensor:
    """Return the mean (B, H) of `error` (B, H, A) over the components that `mask` (B, H) or (B, H, A) keeps, or 0."""
    if mask.ndim == 2:
        return error.mean(-1) * mask
    return torch.where(mask, error, 0.0).sum(-1) / mask.sum(-1).clamp(min=1)


def entry_mean(each: Tensor, mask: Tensor) -> Tensor:
    """Return what adds `each` (B,) to the loss of every real step (B, H), for losses of whole chunks.

    Weighted so that the mean over the real steps of all entries is the mean of `each` over entries with real steps.
    """
    steps = mask if mask.ndim == 2 else mask.any(-1)
    own = steps.sum(-1, keepdim=True)
    weight = steps.sum() / (own * (own > 0).sum()).clamp(min=1)
    return torch.where(steps, each[:, None] * weight, 0.0)


def refuse_dropout(head: str, **learnt_from: nn.Module) -> None:
    """Raise KinemaError when one of the modules has dropout: what a student learns from it would be random."""
    for name, module in learnt_from.items():
        for part in module.modules():
            if isinstance(part, nn.Dropout) and part.p > 0:
                raise KinemaError(
                    f"{head}: the {name} has a dropout of {part.p}, so what the student learns from it would be random"
                    f"\nfix: dropout 0 in the denoiser of the {name}"
                )
