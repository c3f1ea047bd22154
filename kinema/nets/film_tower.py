"""EfficientNet (Tan & Le 2019) of `transformers` with a FiLM layer after each block, as RT-1 (Brohan et al. 2022)."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn
from transformers import EfficientNetConfig, EfficientNetModel

from kinema.core.errors import unknown
from kinema.nets.blocks import Film

SIZES: dict[str, dict[str, Any]] = {
    "b3": {"width_coefficient": 1.2, "depth_coefficient": 1.4, "hidden_dim": 1536},
    "small": {
        "width_coefficient": 0.5,
        "depth_coefficient": 1.0,
        "hidden_dim": 640,
        "kernel_sizes": [3, 3, 5, 3],
        "in_channels": [32, 32, 48, 80],
        "out_channels": [32, 48, 80, 160],
        "strides": [1, 2, 2, 1],
        "num_block_repeats": [1, 1, 2, 2],
        "expand_ratios": [1, 4, 4, 4],
    },
}
"""B3 is made for 300 px and shrinks them 32 times; "small" is for 48 to 96 px and shrinks them 8 times."""


class FilmTower(nn.Module):
    """Images (N, 3, Hi, Wi) to maps (N, `channels`, h, w) that a condition (N, D) modulates, or None.

    Keras forgets a hundredth of its statistics a step; `transformers` hands the same number to torch, where it means
    the opposite, and begins with weights that let nothing through. Both are set right here. In training Keras also
    skips whole blocks, each image's with a chance that rises to a fifth; `transformers` drops single numbers instead,
    which is something else. Here neither is done.
    """

    def __init__(self, size: str, *, image: tuple[int, int], condition_width: int | None) -> None:
        super().__init__()
        if size not in SIZES:
            raise unknown("film-efficientnet size", size, SIZES)
        config = EfficientNetConfig(**SIZES[size], drop_connect_rate=0.0)
        config.depthwise_padding = _odd_blocks(config, image)
        model = EfficientNetModel(config)
        self.embeddings, self.encoder = model.embeddings, model.encoder
        self.channels = int(config.hidden_dim)
        widths = [block.projection.project_conv.out_channels for block in self.encoder.blocks]
        made = [] if condition_width is None else [Film(condition_width, width) for width in widths]
        self.films = nn.ModuleList(made)
        self.apply(_begin)

    def forward(self, images: Tensor, condition: Tensor | None) -> Tensor:
        """Return the maps."""
        hidden = self.embeddings(images)
        for number, block in enumerate(self.encoder.blocks):
            hidden = block(hidden)
            if condition is not None:
                hidden = self.films[number](hidden, condition)
        return self.encoder.top_activation(self.encoder.top_bn(self.encoder.top_conv(hidden)))


def _begin(part: nn.Module) -> None:
    """Draw weights as Keras does: each convolution keeps the size of what comes in."""
    if isinstance(part, nn.Conv2d):
        nn.init.kaiming_normal_(part.weight, mode="fan_in" if part.groups > 1 else "fan_out")
    if isinstance(part, nn.BatchNorm2d):
        nn.init.ones_(part.weight)
        part.momentum = 0.01


def _odd_blocks(config: EfficientNetConfig, image: tuple[int, int]) -> list[int]:
    """Return the blocks that halve a map of odd size, which TensorFlow pads alike on both sides."""
    sides, found, number = [-(-side // 2) for side in image], [], 0
    for stride, repeats in zip(config.strides, config.num_block_repeats, strict=True):
        if stride == 2:
            if any(side % 2 for side in sides):
                found.append(number)
            sides = [-(-side // 2) for side in sides]
        number += math.ceil(config.depth_coefficient * repeats)
    return found
