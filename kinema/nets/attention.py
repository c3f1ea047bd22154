"""Self-attention in which a mask says for each pair of tokens whether one reads the other.

`nets.detr.Attention` is another: of queries to other tokens, with the names of `nn.MultiheadAttention`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinema.core.errors import KinemaError


class MaskedAttention(nn.Module):
    """`heads` heads of `head_width` numbers, by default as many as are together as wide as the tokens."""

    def __init__(self, width: int, *, heads: int, head_width: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        if heads < 1 or (head_width is None and width % heads) or not 0.0 <= dropout < 1.0:
            raise KinemaError(
                f"attention: width {width} in {heads} heads (must divide it), dropout {dropout} (below 1)"
            )
        inner = heads * (width // heads if head_width is None else head_width)
        self.heads, self.dropout = heads, dropout
        self.enter = nn.Linear(width, 3 * inner)
        self.leave = nn.Linear(inner, width)

    def forward(self, x: Tensor, reads: Tensor) -> Tensor:
        """Return (B, N, D) for `x` (B, N, D), where `reads` (B or 1, 1, N, N) says which (last) each token reads."""
        query, key, value = self.enter(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        drop = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=reads, dropout_p=drop)
        return self.leave(join_heads(mixed))


def readable(reads: Tensor, present: Tensor) -> Tensor:
    """Return (B, N, N), which (last) each token reads: of what `reads` (N, N) allows what is `present` (B, N).

    A token that would read nothing reads itself, as attention to nothing is undefined.
    """
    read = reads & present[:, None]
    itself = torch.eye(len(reads), dtype=torch.bool, device=reads.device)
    return read | (itself & ~read.any(-1, keepdim=True))


def split_heads(values: Tensor, heads: int) -> Tensor:
    """Return (B, heads, N, head width) for (B, N, heads * head width)."""
    return values.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(values: Tensor) -> Tensor:
    """Return (B, N, heads * head width) for (B, heads, N, head width)."""
    return values.transpose(1, 2).flatten(2)


def block_mask(begins: Tensor) -> Tensor:
    """Return which tokens each reads (S, S), [reader, read]: those of its block and of blocks before.

    `begins` (S,) bool says which tokens begin a block; where all do, attention is causal (openpi's `make_attn_mask`).
    """
    block = begins.cumsum(0)
    return block[None, :] <= block[:, None]


def after(present: Tensor, begins: Tensor) -> tuple[Tensor, Tensor]:
    """Return what tokens after a prefix read (B, S, N + S) and their positions (B, S).

    All read what is `present` (B, N) of the prefix, and of themselves what their blocks allow: see `block_mask`.
    """
    own = block_mask(begins)
    before = present[:, None].expand(-1, len(own), -1)
    positions = present.sum(1, keepdim=True) + torch.arange(len(own), device=present.device)
    return torch.cat([before, own.expand(len(present), -1, -1)], dim=-1), positions
