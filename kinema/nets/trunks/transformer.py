"""A transformer encoder over all tokens with learnt positions: the one of ACT, for heads that attend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kinema.nets.base import Context, Group, Tokens, Trunk, TrunkConfig, mean_token
from kinema.nets.detr import EncoderLayer, xavier


@dataclass(frozen=True, kw_only=True)
class Transformer(TrunkConfig):
    """`layers` layers of `heads` attention heads and `hidden` units (Zhao et al. 2023, table III)."""

    layers: int = 4
    heads: int = 8
    hidden: int = 3200
    dropout: float = 0.1

    def build(self, groups: Sequence[Group], *, width: int) -> TransformerTrunk:
        """Return the trunk."""
        return TransformerTrunk(self, groups, width=width)


class TransformerTrunk(Trunk):
    """Tokens (B, N, D) to as many, with their positions; the readout `action` (B, 1, D) is their mean.

    Positions are learnt, but for groups that bring their own.
    """

    learn: Tensor

    def __init__(self, config: Transformer, groups: Sequence[Group], *, width: int) -> None:
        super().__init__()
        places = [not group.placed for group in groups for _ in range(group.tokens)]
        learn = torch.tensor([index for index, learnt in enumerate(places) if learnt], dtype=torch.int64)
        self.register_buffer("learn", learn, persistent=False)
        self.positions = nn.Embedding(len(learn), width)
        self.layers = nn.ModuleList(
            [
                EncoderLayer(width, heads=config.heads, hidden=config.hidden, dropout=config.dropout)
                for _ in range(config.layers)
            ]
        )
        xavier(self.layers)

    def forward(self, tokens: Tokens) -> Context:
        """Return the context; absent tokens are read by none."""
        positions = self.positions.weight
        if tokens.positions is not None:
            positions = tokens.positions.to(positions).index_copy(0, self.learn, positions)
        values = tokens.values
        for layer in self.layers:
            values = layer(values, positions, tokens.mask)
        mean = mean_token(Tokens(values, tokens.mask))[:, None]
        return Context(tokens=values, mask=tokens.mask, readout={"action": mean}, positions=positions)
