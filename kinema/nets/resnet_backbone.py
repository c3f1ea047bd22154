"""Residual networks (He et al. 2016) of `transformers`, with the norms of robot policies and torchvision's names.

Batch norm couples the entries of a batch and disagrees with moving averages of weights: Diffusion Policy takes group
norm instead, ACT batch norm whose statistics are kept as ImageNet left them.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetModel

from kinema.core.errors import KinemaError, unknown
from kinema.nets.renaming import Renaming

Norm = Literal["group", "frozen"]
GROUP_CHANNELS = 16
DEPTHS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
"""Blocks of each stage, by the number of layers; from 50 on they are bottlenecks."""


def name_pairs(*, convolution: str = "conv1.", norm: str = "bn1.", stage: str = "layer{s+1}.") -> list[tuple[str, str]]:
    """Return pairs of a weight's name here, which is that of transformers, and in torchvision, for `Renaming`.

    `convolution`, `norm` and `stage` are what the parts are called there.
    """
    block = "encoder.stages.{s}.layers.{b}."
    return [
        ("embedder.embedder.convolution.", convolution),
        ("embedder.embedder.normalization.", norm),
        (block + "layer.{k}.convolution.", stage + "{b}.conv{k+1}."),
        (block + "layer.{k}.normalization.", stage + "{b}.bn{k+1}."),
        (block + "shortcut.convolution.", stage + "{b}.downsample.0."),
        (block + "shortcut.normalization.", stage + "{b}.downsample.1."),
    ]


TORCHVISION = Renaming(name_pairs())
"""The names of the weights of `ResNetBackbone` and those in torchvision."""


class ResNetBackbone(nn.Module):
    """Images (N, 3, Hi, Wi) to maps (N, `width`, h, w) after the last of `stages`, each half as high as before."""

    def __init__(self, *, layers: int, channels: int, stages: int, norm: Norm) -> None:
        super().__init__()
        check_sizes(layers=layers, channels=channels, stages=stages, norm=norm)
        factor = 4 if layers >= 50 else 1
        sizes = [factor * channels * 2**stage for stage in range(stages)]
        config = ResNetConfig(
            embedding_size=channels,
            hidden_sizes=sizes,
            depths=list(DEPTHS[layers][:stages]),
            layer_type="bottleneck" if layers >= 50 else "basic",
        )
        self.width = sizes[-1]
        self.shrink = 2 ** (stages + 1)
        model = ResNetModel(config)
        self.embedder, self.encoder = model.embedder, model.encoder
        _replace_norms(self, norm)

    def forward(self, images: Tensor) -> Tensor:
        """Return the maps."""
        return self.encoder(self.embedder(images)).last_hidden_state

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """Return (h, w) of the map of images of `height` x `width` [px]."""
        return -(-height // self.shrink), -(-width // self.shrink)


class FrozenBatchNorm(nn.Module):
    """Batch norm of N x C x h x w whose statistics and weights are constants, kept in buffers."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, features: Tensor) -> Tensor:
        """Return the normalised features."""
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        return features * scale[:, None, None] + (self.bias - self.running_mean * scale)[:, None, None]


def check_sizes(*, layers: int, channels: int, stages: int, norm: Norm) -> None:
    """Raise KinemaError unless there is such a network."""
    if norm not in get_args(Norm):
        raise unknown("resnet norm", norm, get_args(Norm))
    if layers not in DEPTHS or not 1 <= stages <= 4 or channels < 1:
        raise KinemaError(
            f"resnet: layers {layers} (one of {', '.join(map(str, DEPTHS))}), stages {stages} (1 to 4) or channels "
            f"{channels} (1 or more) is out of range"
        )
    if norm == "group" and channels % GROUP_CHANNELS:
        raise KinemaError(f"resnet: channels {channels} must be a multiple of {GROUP_CHANNELS}, the size of a group")


def _replace_norms(model: nn.Module, norm: Norm) -> None:
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                size = child.num_features
                made = nn.GroupNorm(size // GROUP_CHANNELS, size) if norm == "group" else FrozenBatchNorm(size)
                setattr(parent, name, made)
