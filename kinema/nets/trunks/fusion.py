"""Concatenate all tokens and mix them with a residual MLP: small, fast, and enough for a few cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from kinema.nets.base import Context, Group, Tokens, Trunk, TrunkConfig
from kinema.nets.blocks import ResidualBlock


@dataclass(frozen=True, kw_only=True)
class Fusion(TrunkConfig):
    """`blocks` residual blocks of the policy's width after the concatenation."""

    blocks: int = 2
    dropout: float = 0.0

    def build(self, groups: Sequence[Group], *, width: int) -> FusionTrunk:
        """Return the trunk."""
        return FusionTrunk(self, tokens=sum(group.tokens for group in groups), width=width)


class FusionTrunk(Trunk):
    """Tokens (B, N, D) to one readout token named `action` (B, 1, D)."""

    def __init__(self, config: Fusion, *, tokens: int, width: int) -> None:
        super().__init__()
        self.mix = nn.Linear(tokens * width, width)
        self.blocks = nn.ModuleList([ResidualBlock(width, dropout=config.dropout) for _ in range(config.blocks)])
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tokens) -> Context:
        """Return the context; absent tokens count as zero."""
        hidden = self.mix((tokens.values * tokens.mask[..., None]).flatten(1))
        for block in self.blocks:
            hidden = block(hidden)
        return Context(tokens=tokens.values, mask=tokens.mask, readout={"action": self.norm(hidden)[:, None]})
