"""What makes tokens of a language model's width of patches."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor, nn

from kinema.core.errors import KinemaError, unknown

Projector = Literal["linear", "mlp3", "pixel_shuffle"]


def projector(kind: Projector, inputs: int, width: int, shuffle: int | None) -> nn.Module:
    """Return the module from patches (..., inputs) to tokens (..., width); weights are named as published."""
    if kind == "linear":
        return Linear(inputs, width)
    if kind == "mlp3":
        return Mlp3(inputs, width)
    if kind != "pixel_shuffle":
        raise unknown("projector", kind, get_args(Projector))
    if shuffle is None:
        raise KinemaError("projector pixel_shuffle: shuffle is None, expected the factor, such as 4")
    return Shuffled(inputs * shuffle**2, width)


class Linear(nn.Module):
    """PaliGemma's (Beyer et al. 2024)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, width)

    def forward(self, patches: Tensor) -> Tensor:
        """Return the patches in the other width."""
        out: Tensor = self.linear(patches)
        return out


class Mlp3(nn.Module):
    """Prismatic's for towers side by side (Karamcheti et al. 2024): four times as wide, then twice the new width."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = (
            nn.Linear(inputs, 4 * inputs),
            nn.Linear(4 * inputs, width),
            nn.Linear(width, width),
        )

    def forward(self, patches: Tensor) -> Tensor:
        """Return the patches in the other width."""
        gelu = nn.functional.gelu
        out: Tensor = self.fc3(gelu(self.fc2(gelu(self.fc1(patches)))))
        return out


class Shuffled(nn.Module):
    """SmolVLM's (Marafioti et al. 2025): reads `pixel_shuffle`d patches."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inputs, width, bias=False)

    def forward(self, patches: Tensor) -> Tensor:
        """Return the patches in the other width."""
        out: Tensor = self.proj(patches)
        return out


def pixel_shuffle(raster: Tensor, factor: int) -> Tensor:
    """Return `raster` (N, rows, columns, W) with squares of `factor` x `factor` patches as one, factor² as wide.

    Within a square row by row, as SmolVLM and Idefics 3 lay it out.
    """
    count, rows, columns, width = raster.shape
    squares = raster.view(count, rows // factor, factor, columns // factor, factor, width)
    return squares.transpose(2, 3).reshape(count, rows // factor, columns // factor, factor**2 * width)
