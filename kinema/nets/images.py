"""Pixels as networks read them: uint8 until the last moment, then float32 whatever the weights are."""

from __future__ import annotations

import torch
from torch import Tensor

Channels = tuple[float, float, float]
"""A number for each of red, green and blue."""

IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION: Channels = (0.229, 0.224, 0.225)


def centred(images: Tensor) -> Tensor:
    """Return uint8 images (..., Hi, Wi, 3), in a row, as (N, 3, Hi, Wi) in [-1, 1]."""
    return images.flatten(0, -4).permute(0, 3, 1, 2).float().div(127.5).sub(1.0)


def scaled(images: Tensor, mean: Channels, deviation: Channels) -> Tensor:
    """Return uint8 images (..., Hi, Wi, 3), in a row, as (N, 3, Hi, Wi): pixels / 255, less `mean`, by `deviation`."""
    # Channel by channel with plain numbers: nothing to move to the device, nothing that lower precision would round.
    channels = images.flatten(0, -4).unbind(-1)
    made = [(one.float() / 255 - m) / d for one, m, d in zip(channels, mean, deviation, strict=True)]
    return torch.stack(made, dim=-1).permute(0, 3, 1, 2)
