"""A convolutional image encoder that the instruction modulates, read out as keypoints.

FiLM after every block (Perez et al. 2018; RT-1 2022) lets language choose what to look for; spatial softmax (Levine et
al. 2016) turns each feature map into the coordinates where it fires, which needs far less data than a flattened map.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kinema.core.errors import SpecMismatch
from kinema.core.spec import ObservationSpec
from kinema.nets.base import Encoder, EncoderConfig, Tokens
from kinema.nets.blocks import Film
from kinema.nets.images import centred


@dataclass(frozen=True, kw_only=True)
class FilmCnn(EncoderConfig):
    """One camera; `channels` and `strides` per block, `keypoints` feature maps are located in what is left."""

    camera: str
    condition: str | None = "instruction"
    channels: tuple[int, ...] = (32, 64, 64)
    strides: tuple[int, ...] = (2, 2, 1)
    keypoints: int = 64

    @property
    def reads(self) -> tuple[str, ...]:
        """The camera's image."""
        return (f"image.{self.camera}",)

    def build(self, spec: ObservationSpec, *, obs_horizon: int, width: int) -> FilmCnnEncoder:
        """Return the encoder; every observed step becomes one token."""
        if len(self.channels) != len(self.strides):
            raise SpecMismatch(f"film-cnn: {len(self.channels)} channels but {len(self.strides)} strides")
        height, image_width, _ = spec.shape(self.reads[0])
        shrink = 1
        for stride in self.strides:
            shrink *= stride
        if height < 4 * shrink or image_width < 4 * shrink:
            raise SpecMismatch(
                f"film-cnn: camera {self.camera!r} at {height}x{image_width} px is too small for strides {self.strides}"
            )
        return FilmCnnEncoder(self, obs_horizon=obs_horizon, width=width)


class FilmCnnEncoder(Encoder):
    """uint8 images (B, T, Hi, Wi, 3) to tokens (B, T, D)."""

    def __init__(self, config: FilmCnn, *, obs_horizon: int, width: int) -> None:
        super().__init__()
        self.key = config.reads[0]
        self.tokens = obs_horizon
        self.steps = obs_horizon
        self.conditioned = config.condition is not None
        blocks, before = [], 3
        for index, (channels, stride) in enumerate(zip(config.channels, config.strides, strict=True)):
            blocks.append(_Block(before, channels, stride, 5 if index == 0 else 3, width if self.conditioned else None))
            before = channels
        self.blocks = nn.ModuleList(blocks)
        self.heatmaps = nn.Conv2d(before, config.keypoints, 1)
        self.values = nn.Conv2d(before, config.keypoints, 1)
        self.project = nn.Sequential(nn.Linear(3 * config.keypoints, width), nn.LayerNorm(width), nn.SiLU())

    def forward(self, sample: Mapping[str, Any], condition: Tensor | None) -> Tokens:
        """Return one token a step from where and how strongly each keypoint fires."""
        images = sample[self.key]
        batch, steps = images.shape[:2]
        features = centred(images)
        if (condition is not None) != self.conditioned:
            raise ValueError(
                f"conditioned: {self.conditioned}, but a condition is {'' if condition is not None else 'not '}given"
            )
        if condition is not None:
            condition = condition.repeat_interleave(steps, dim=0)
        for block in self.blocks:
            features = block(features, condition)
        located = spatial_softmax(self.heatmaps(features), self.values(features))
        return Tokens.present(self.project(located).view(batch, steps, -1))


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int, kernel: int, condition_width: int | None) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(before, after, kernel, stride, kernel // 2)
        self.norm = nn.GroupNorm(max(1, after // 8), after)
        self.film = Film(condition_width, after) if condition_width else None

    def forward(self, features: Tensor, condition: Tensor | None) -> Tensor:
        features = self.norm(self.convolution(features))
        if self.film is not None and condition is not None:
            features = self.film(features, condition)
        return nn.functional.relu(features)


def spatial_softmax(heatmaps: Tensor, values: Tensor) -> Tensor:
    """Return (B, 3K): the expected x and y in [-1, 1] of each heatmap (B, K, h, w), and `values` averaged under it."""
    _, _, height, width = heatmaps.shape
    weights = heatmaps.float().flatten(2).softmax(dim=-1)
    x = torch.linspace(-1.0, 1.0, width, device=weights.device).repeat(height)
    y = torch.linspace(-1.0, 1.0, height, device=weights.device).repeat_interleave(width)
    expected_value = (weights * values.float().flatten(2)).sum(-1)
    # Sums, not matrix products: autocast would round the coordinates to bf16, a fifth of a pixel.
    return torch.cat([(weights * x).sum(-1), (weights * y).sum(-1), expected_value], dim=-1)
