"""Cameras through one residual network whose last map is read out as ACT or Diffusion Policy do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from kinema.core.errors import SpecMismatch, unknown
from kinema.core.spec import ObservationSpec
from kinema.nets.base import Encoder, EncoderConfig, Tokens
from kinema.nets.detr import fixed_grid
from kinema.nets.encoders.film_cnn import spatial_softmax
from kinema.nets.images import IMAGENET_DEVIATION, IMAGENET_MEAN, Channels, scaled
from kinema.nets.resnet_backbone import Norm, ResNetBackbone

Readout = Literal["tokens", "spatial_softmax", "mean"]


@dataclass(frozen=True, kw_only=True)
class ResNet(EncoderConfig):
    """All `cameras` go through the same weights. `layers` 18, 34 and 50 are those of He et al.; 10 has a block a stage.

    The first of `stages` has `channels` channels, each further one twice as many on a map half as high; small images
    want fewer than 4. `readout` "tokens" is every point of the map, placed by fixed sines (ACT), "spatial_softmax"
    the coordinates of `keypoints` points, one token a camera (Diffusion Policy), "mean" the mean of the map, one token
    a camera. Pixels / 255 are scaled by `mean` and `deviation`.
    """

    cameras: tuple[str, ...]
    layers: int = 18
    channels: int = 64
    stages: int = 4
    norm: Norm = "group"
    readout: Readout = "tokens"
    keypoints: int = 32
    mean: Channels = IMAGENET_MEAN
    deviation: Channels = IMAGENET_DEVIATION
    condition: str | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The images of the cameras."""
        return tuple(f"image.{camera}" for camera in self.cameras)

    def build(self, spec: ObservationSpec, *, obs_horizon: int, width: int) -> ResNetEncoder:
        """Return the encoder; every observed step becomes the tokens of all cameras."""
        if self.condition is not None:
            raise SpecMismatch(f"resnet takes no condition, got {self.condition!r}")
        if not self.cameras:
            raise SpecMismatch("resnet needs one camera or more")
        if self.readout not in get_args(Readout):
            raise unknown("resnet readout", self.readout, get_args(Readout))
        sizes = [spec.shape(key)[:2] for key in self.reads]
        return ResNetEncoder(self, [(high, wide) for high, wide in sizes], obs_horizon=obs_horizon, width=width)


class ResNetEncoder(Encoder):
    """uint8 images (B, T, Hi, Wi, 3) to tokens (B, T * N, D): steps in order, in each the cameras in order."""

    positions: Tensor

    def __init__(self, config: ResNet, sizes: list[tuple[int, int]], *, obs_horizon: int, width: int) -> None:
        super().__init__()
        self.keys, self.scaling = config.reads, (config.mean, config.deviation)
        self.backbone = ResNetBackbone(
            layers=config.layers, channels=config.channels, stages=config.stages, norm=config.norm
        )
        maps = [self.backbone.map_size(*size) for size in sizes]
        self.placed, self.steps = config.readout == "tokens", obs_horizon
        self.tokens = obs_horizon * sum(high * wide if self.placed else 1 for high, wide in maps)
        if config.readout == "spatial_softmax":
            _check_located(config, maps, shrink=self.backbone.shrink)
            self.read: nn.Module = Keypoints(self.backbone.width, config.keypoints, width)
        else:
            self.read = (Points if self.placed else Mean)(self.backbone.width, width)
        # Points are placed in the image alone: what tells steps apart is learnt.
        self.step = nn.Parameter(torch.zeros(obs_horizon, 1, width)) if self.placed and obs_horizon > 1 else None
        if self.placed:
            placed = torch.cat([fixed_grid(high, wide, width, torch.device("cpu")) for high, wide in maps])
            self.register_buffer("positions", placed.repeat(obs_horizon, 1), persistent=False)

    def forward(self, sample: Mapping[str, Any], condition: Tensor | None) -> Tokens:
        """Return the tokens."""
        values = []
        for key in self.keys:
            images = sample[key]
            values.append(self.read(self.backbone(scaled(images, *self.scaling))).unflatten(0, images.shape[:2]))
        tokens = torch.cat(values, dim=2)
        if self.step is not None:
            tokens = tokens + self.step
        return Tokens.present(tokens.flatten(1, 2), self.positions if self.placed else None)


class Points(nn.Module):
    """Maps (N, C, h, w) to a token for each point, (N, h * w, D), row by row."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return the tokens."""
        return self.project(features).flatten(2).transpose(1, 2)


class Mean(nn.Module):
    """Maps (N, C, h, w) to one token (N, 1, D)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(channels, width)

    def forward(self, features: Tensor) -> Tensor:
        """Return the token."""
        return self.project(features.mean((2, 3)))[:, None]


class Keypoints(nn.Module):
    """Maps (N, C, h, w) to one token (N, 1, D): where in the image each of `keypoints` is, through a layer with ReLU.

    With a width of 2 * `keypoints` that is the token; else a linear layer follows, as in VQ-BeT.
    """

    def __init__(self, channels: int, keypoints: int, width: int) -> None:
        super().__init__()
        self.heatmaps = nn.Conv2d(channels, keypoints, 1)
        self.out = nn.Linear(2 * keypoints, 2 * keypoints)
        self.project = nn.Identity() if width == 2 * keypoints else nn.Linear(2 * keypoints, width)

    def forward(self, features: Tensor) -> Tensor:
        """Return the token."""
        heatmaps = self.heatmaps(features)
        located = spatial_softmax(heatmaps, heatmaps).unflatten(1, (3, -1))[:, :2]
        points = located.transpose(1, 2).flatten(1).to(features.dtype)  # x and y of each keypoint side by side
        return self.project(nn.functional.relu(self.out(points)))[:, None]


def _check_located(config: ResNet, maps: list[tuple[int, int]], *, shrink: int) -> None:
    """Raise SpecMismatch where a map has one point: the softmax over it is 1 whatever the image shows."""
    for camera, (high, wide) in zip(config.cameras, maps, strict=True):
        if high * wide == 1:
            raise SpecMismatch(
                f"resnet: camera {camera!r} is at most {shrink} px high and wide, so that after {config.stages} stages "
                "one point is left, on which no keypoint can be located\nfix: fewer stages, or larger images"
            )
