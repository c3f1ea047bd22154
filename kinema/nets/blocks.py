"""Small blocks that several networks share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Film(nn.Module):
    """Feature-wise linear modulation, x * (1 + scale) + shift; starts as the identity.

    Perez et al. 2018; the zero weights are RT-1's.
    """

    def __init__(self, condition_width: int, channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(condition_width, 2 * channels)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Return modulated `features` (B, C, ...) for `condition` (B, D)."""
        scale, shift = self.project(condition).chunk(2, dim=-1)
        extra = (1,) * (features.dim() - 2)
        return features * (1 + scale.view(*scale.shape, *extra)) + shift.view(*shift.shape, *extra)


class ResidualBlock(nn.Module):
    """A pre-norm residual MLP block, optionally modulated by a condition."""

    def __init__(self, width: int, *, condition_width: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.film = Film(condition_width, width) if condition_width else None
        self.layers = nn.Sequential(
            nn.Linear(width, 2 * width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )

    def forward(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return `values` (B, D) plus the block's update."""
        hidden = self.norm(values)
        if self.film is not None:
            if condition is None:
                raise ValueError("this block needs a condition")
            hidden = self.film(hidden, condition)
        return values + self.layers(hidden)


class ResidualMlp(nn.Module):
    """Residual blocks of one width, then a norm and one linear layer: from a readout to numbers."""

    def __init__(self, width: int, size: int, *, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([ResidualBlock(width) for _ in range(blocks)])
        self.project = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, size))

    def forward(self, values: Tensor) -> Tensor:
        """Return (..., `size`) for `values` (..., `width`)."""
        for block in self.blocks:
            values = block(values)
        return self.project(values)


def sinusoidal(values: Tensor, width: int, *, shortest: float = 4e-3, longest: float = 4.0) -> Tensor:
    """Return sine and cosine features (B, width) of `values` (B,), periods spaced geometrically as in pi0."""
    fraction = torch.linspace(0.0, 1.0, width // 2, device=values.device, dtype=torch.float32)
    period = shortest * (longest / shortest) ** fraction
    angle = values[:, None].float() * (2 * math.pi / period)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
