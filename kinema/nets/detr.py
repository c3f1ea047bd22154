"""Transformer layers as in DETR (Carion et al. 2020): positions join queries and keys, not values, in every layer.

Normalisation comes after each residual, as in the original transformer.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinema.core.errors import KinemaError
from kinema.nets.attention import join_heads, split_heads


class Attention(nn.Module):
    """`nn.MultiheadAttention` with its names, start and results, without its copies to (N, B, D) and back."""

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.head_width, self.dropout = width // heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Return (B, n, D) for `query` (B or 1, n, D), from `value` (B, N, D) where `mask` (B, N) has it present."""
        seen = None if mask is None else mask[:, None, None]
        drop = self.dropout if self.training else 0.0
        # Query and key of self-attention are of the same tokens: one product makes both.
        given, parts = ((key, value), (2, 1)) if query is key else ((query, key, value), (1, 1, 1))
        sizes = [part * query.shape[-1] for part in parts]
        weights, biases = self.in_proj_weight.split(sizes), self.in_proj_bias.split(sizes)
        made = [
            split_heads(F.linear(one, weight, bias), len(bias) // self.head_width)
            for one, weight, bias in zip(given, weights, biases, strict=True)
        ]
        q, k, v = (*made[0].chunk(2, dim=1), made[1]) if query is key else made
        q = q.expand(len(k), -1, -1, -1)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=drop)
        return self.out_proj(join_heads(mixed))


class _Layer(nn.Module):
    def __init__(self, width: int, *, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        if heads < 1 or width % heads or not 0.0 <= dropout < 1.0:
            raise KinemaError(
                f"attention: width {width} in {heads} heads (must divide it), dropout {dropout} (below 1)"
            )
        self.attend_self = Attention(width, heads=heads, dropout=dropout)
        self.norm_self = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, width))
        self.norm_mlp = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def _self(self, x: Tensor, positions: Tensor, mask: Tensor | None, first: int | None = None) -> Tensor:
        placed = x + positions
        asking = placed if first is None else placed[:, :first]
        return self.norm_self(x[:, :first] + self.dropout(self.attend_self(asking, placed, x, mask)))

    def _mlp(self, x: Tensor) -> Tensor:
        return self.norm_mlp(x + self.dropout(self.mlp(x)))


class EncoderLayer(_Layer):
    """Self-attention and an MLP of `hidden` units, dropout in both."""

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor | None, *, first: int | None = None) -> Tensor:
        """Return the next `x` (B, N, D), of which `mask` (B, N) are present, at `positions` (N, D).

        With `first` it is only that of the `first` tokens (B, `first`, D); all are read.
        """
        return self._mlp(self._self(x, positions, mask, first))


class DecoderLayer(_Layer):
    """Self-attention of queries, cross-attention to a memory and an MLP."""

    def __init__(self, width: int, *, heads: int, hidden: int, dropout: float) -> None:
        super().__init__(width, heads=heads, hidden=hidden, dropout=dropout)
        self.attend_memory = Attention(width, heads=heads, dropout=dropout)
        self.norm_memory = nn.LayerNorm(width)

    def forward(self, x: Tensor, queries: Tensor, memory: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Return the next `x` (B, H, D), placed by `queries` (H, D); one `x` (1, H, D) may stand for all entries.

        `memory` (B, N, D), of which `mask` (B, N) are present, is what is read; `keys` (B, N, D) is it with positions.
        """
        x = self._self(x, queries, None)
        return self._mlp(self.norm_memory(x + self.dropout(self.attend_memory(x + queries, keys, memory, mask))))


def xavier(module: nn.Module) -> None:
    """Draw all matrices of `module` from Glorot's uniform distribution, as DETR begins."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)


def fixed_positions(count: int, width: int, device: torch.device) -> Tensor:
    """Return sine and cosine positions (`count`, `width`), interleaved (Vaswani et al. 2017, section 3.5)."""
    index = torch.arange(width, device=device)
    rate = 10000.0 ** (-2.0 * (index // 2).double() / width)
    angle = torch.arange(count, device=device).double()[:, None] * rate
    return torch.where(index % 2 == 0, angle.sin(), angle.cos()).float()


def fixed_grid(rows: int, columns: int, width: int, device: torch.device) -> Tensor:
    """Return sine and cosine positions (`rows` * `columns`, `width`) in an image, row by row.

    Half of the width says the row, half the column, both counted from 1 to 2 pi at the last (Carion et al. 2020).
    """
    if width % 4:
        raise KinemaError(f"positions in an image: width {width} must be a multiple of 4")
    half = width // 2
    index = torch.arange(half, device=device)
    rate = 10000.0 ** (-2.0 * (index // 2).double() / half)

    def placed(count: int) -> Tensor:
        place = torch.arange(1, count + 1, device=device).double() / (count + 1e-6) * (2.0 * math.pi)
        angle = place[:, None] * rate
        return torch.where(index % 2 == 0, angle.sin(), angle.cos()).float()

    down, right = placed(rows)[:, None].expand(-1, columns, -1), placed(columns)[None].expand(rows, -1, -1)
    return torch.cat([down, right], dim=-1).flatten(0, 1)
