"""A small causal transformer over tokens that reads a context by cross-attention (Vaswani et al. 2017), pre-norm.

`forward` reads whole rows at once, for training. `step` reads one token and what attention kept of those before it, for
acting; both give the same logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinema.core.errors import KinemaError
from kinema.nets.attention import join_heads, split_heads
from kinema.nets.base import Context, KeyValue
from kinema.nets.blocks import ResidualBlock


@dataclass(frozen=True)
class Memory:
    """What attention keeps between steps: of the context, and of the tokens so far, a pair for each block."""

    context: tuple[KeyValue, ...]
    mask: Tensor  # (B, 1, 1, N) bool
    past: tuple[KeyValue | None, ...]


class CausalDecoder(nn.Module):
    """Logits (B, L, V) for each token of rows (B, L), from the tokens before it and the context's."""

    def __init__(self, *, vocabulary: int, length: int, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        if blocks < 1 or heads < 1 or width % heads:
            raise KinemaError(
                f"causal decoder: width {width} must be a multiple of heads {heads}, blocks {blocks} >= 1"
            )
        self.embed = nn.Embedding(vocabulary, width)
        self.start = nn.Parameter(0.02 * torch.randn(width))
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.norm_context = nn.LayerNorm(width)
        self.blocks = nn.ModuleList([DecoderBlock(width, heads) for _ in range(blocks)])
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, vocabulary))
        nn.init.normal_(self.embed.weight, std=0.02)

    def forward(self, tokens: Tensor, present: Tensor, context: Context) -> Tensor:
        """Return the logits of `tokens` (B, L); those that `present` (B, L) leaves out tell nothing to later ones."""
        before = self.embed(tokens[:, :-1]) * present[:, :-1, None]
        hidden = torch.cat([self.start.expand(len(tokens), 1, -1), before], dim=1)
        return self._read(hidden, 0, self.remember(context))[0]

    def remember(self, context: Context) -> Memory:
        """Return the memory before the first token."""
        values = self.norm_context(context.tokens)
        keys = values if context.positions is None else values + context.positions
        kept = tuple(cast("DecoderBlock", block).remember(keys, values) for block in self.blocks)
        return Memory(context=kept, mask=context.mask[:, None, None], past=(None,) * len(kept))

    def step(self, before: Tensor | None, index: int, memory: Memory) -> tuple[Tensor, Memory]:
        """Return the logits (B, V) of token `index` and the new memory; `before` (B,) is the token `index` - 1."""
        hidden = self.start.expand(len(memory.mask), -1) if before is None else self.embed(before)
        logits, memory = self._read(hidden[:, None], index, memory)
        return logits[:, 0], memory

    def _read(self, hidden: Tensor, index: int, memory: Memory) -> tuple[Tensor, Memory]:
        hidden = hidden + self.position[index : index + hidden.shape[1]]
        past = []
        for block, kept, own in zip(self.blocks, memory.context, memory.past, strict=True):
            hidden, new = block(hidden, kept, memory.mask, own)
            past.append(new)
        return self.leave(hidden).float(), Memory(context=memory.context, mask=memory.mask, past=tuple(past))


class DecoderBlock(nn.Module):
    """Causal self-attention, cross-attention and a residual MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_self, self.norm_cross = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.leave_self = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.leave_cross = nn.Linear(width, width)
        self.mlp = ResidualBlock(width)

    def remember(self, keys: Tensor, values: Tensor) -> KeyValue:
        """Return keys and values of the context's tokens (B, N, D), the keys from those with their positions."""
        return self._split(self.key(keys)), self._split(self.value(values))

    def forward(
        self, hidden: Tensor, context: KeyValue, mask: Tensor, past: KeyValue | None
    ) -> tuple[Tensor, KeyValue]:
        """Return `hidden` (B, n, D) after the block, and keys and values up to here; with a past, n is 1."""
        query, key, value = map(self._split, self.query_key_value(self.norm_self(hidden)).chunk(3, dim=-1))
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        own = F.scaled_dot_product_attention(query, key, value, is_causal=hidden.shape[1] > 1)
        hidden = hidden + self.leave_self(join_heads(own))
        query = self._split(self.query(self.norm_cross(hidden)))
        seen = F.scaled_dot_product_attention(query, *context, attn_mask=mask)
        return self.mlp(hidden + self.leave_cross(join_heads(seen))), (key, value)

    def _split(self, values: Tensor) -> Tensor:
        return split_heads(values, self.heads)
