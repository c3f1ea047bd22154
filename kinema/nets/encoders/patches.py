"""A camera as a grid of tokens: a few convolutions, then one token a patch (Xiao et al. 2021; the stem of Octo, 2024).

Convolutions have standardised weights and group normalisation. Positions are the trunk's to learn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from kinema.core.errors import SpecMismatch
from kinema.core.spec import ObservationSpec
from kinema.nets.base import Encoder, EncoderConfig, Tokens
from kinema.nets.images import centred


@dataclass(frozen=True, kw_only=True)
class Patches(EncoderConfig):
    """Patches of `patch` pixels; each of `channels` is a convolution that halves the image, `embedding` linear.

    `dropout` is the chance that training hides the camera, so that acting can do without it: see `Encoder`.
    """

    camera: str
    patch: int = 16
    channels: tuple[int, ...] = (32, 96, 192, 384)
    embedding: int = 512
    dropout: float = 0.0
    condition: str | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The camera's image."""
        return (f"image.{self.camera}",)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return how many rows and columns of patches an image has; what is left beyond the last makes no token."""
        shrink, kernel = 2 ** len(self.channels), self.patch // 2 ** len(self.channels)
        return math.ceil(height / shrink) // kernel, math.ceil(width / shrink) // kernel

    def build(self, spec: ObservationSpec, *, obs_horizon: int, width: int) -> PatchesEncoder:
        """Return the encoder; every observed step becomes a token a patch."""
        if self.condition is not None:
            raise SpecMismatch(f"patches takes no condition, got {self.condition!r}")
        if not 0.0 <= self.dropout < 1.0:
            raise SpecMismatch(f"patches: dropout {self.dropout} is outside [0, 1)")
        shrink = 2 ** len(self.channels)
        if self.patch < shrink or self.patch % shrink:
            raise SpecMismatch(
                f"patches: patch {self.patch} must be a multiple of {shrink}: {len(self.channels)} convolutions halve "
                "the image each"
            )
        height, image_width, _ = spec.shape(self.reads[0])
        rows, columns = self.grid(height, image_width)
        if min(rows, columns) < 1:
            raise SpecMismatch(
                f"patches: camera {self.camera!r} at {height}x{image_width} px is smaller than a patch of {self.patch}"
            )
        return PatchesEncoder(self, patches=rows * columns, obs_horizon=obs_horizon, width=width)


class PatchesEncoder(Encoder):
    """uint8 images (B, T, Hi, Wi, 3) to tokens (B, T * patches, D), row after row."""

    def __init__(self, config: Patches, *, patches: int, obs_horizon: int, width: int) -> None:
        super().__init__()
        self.key, self.dropout = config.reads[0], config.dropout
        self.tokens, self.steps = obs_horizon * patches, obs_horizon
        stem: list[nn.Module] = []
        for before, after in zip((3, *config.channels[:-1]), config.channels, strict=True):
            groups = math.gcd(32, after)
            # Where every channel is a group of its own, normalisation takes a bias out again.
            stem += [_StandardConv(before, after, 3, 2, 1, bias=groups < after), nn.GroupNorm(groups, after, eps=1e-6)]
            stem.append(nn.ReLU())
        self.stem = nn.Sequential(*stem)
        kernel = config.patch // 2 ** len(config.channels)
        self.embed = nn.Conv2d(config.channels[-1], config.embedding, kernel, kernel)
        self.project = nn.Linear(config.embedding, width)

    def forward(self, sample: Mapping[str, Any], condition: Tensor | None) -> Tokens:
        """Return the tokens."""
        images = sample[self.key]
        features = self.embed(self.stem(centred(images))).flatten(2).transpose(1, 2)
        return Tokens.present(self.project(features).view(len(images), self.tokens, -1))


class _StandardConv(nn.Conv2d):
    """A convolution whose weights have mean 0 and standard deviation 1 for each output (Qiao et al. 2019)."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True, correction=0) + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)
