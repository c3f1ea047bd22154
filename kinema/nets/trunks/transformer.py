"""A transformer encoder over all tokens with learnt positions: the one of ACT, for heads that attend."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from kinema.nets.base import Context, Trunk, TrunkConfig
from kinema.nets.detr import EncoderLayer, xavier


@dataclass(frozen=True, kw_only=True)
class Transformer(TrunkConfig):
    """`layers` layers of `heads` attention heads and `hidden` units (Zhao et al. 2023, table III)."""

    layers: int = 4
    heads: int = 8
    hidden: int = 3200
    dropout: float = 0.1

    def build(self, *, tokens: int, width: int) -> TransformerTrunk:
        """Return the trunk."""
        return TransformerTrunk(self, tokens=tokens, width=width)


class TransformerTrunk(Trunk):
    """Tokens (B, N, D) to as many, with their positions; the readout `action` (B, 1, D) is their mean."""

    def __init__(self, config: Transformer, *, tokens: int, width: int) -> None:
        super().__init__()
        self.positions = nn.Embedding(tokens, width)
        self.layers = nn.ModuleList(
            [
                EncoderLayer(width, heads=config.heads, hidden=config.hidden, dropout=config.dropout)
                for _ in range(config.layers)
            ]
        )
        xavier(self.layers)

    def forward(self, tokens: Tensor, mask: Tensor) -> Context:
        """Return the context; absent tokens are read by none."""
        positions = self.positions.weight
        for layer in self.layers:
            tokens = layer(tokens, positions, mask)
        present = mask[..., None]
        mean = (tokens * present).sum(1, keepdim=True) / present.sum(1, keepdim=True)
        return Context(tokens=tokens, mask=mask, readout={"action": mean}, positions=positions)
