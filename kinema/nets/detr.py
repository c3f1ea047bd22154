"""Transformer layers as in DETR (Carion et al. 2020): positions join queries and keys, not values, in every layer.

Normalisation comes after each residual, as in the original transformer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinema.core.errors import KinemaError


class Attention(nn.Module):
    """`nn.MultiheadAttention` with its names, start and results, without its copies to (N, B, D) and back."""

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Return (B, n, D) for `query` (B or 1, n, D), from `value` (B, N, D) where `mask` (B, N) has it present."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        seen = None if mask is None else mask[:, None, None]
        drop = self.dropout if self.training else 0.0
        q, k, v = (
            F.linear(given, weight, bias).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for given, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        q = q.expand(len(k), -1, -1, -1)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=drop)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


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
        return self.norm_self(x[:, :first] + self.dropout(self.attend_self(placed[:, :first], placed, x, mask)))

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
