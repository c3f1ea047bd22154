"""Concatenate all tokens and mix them with a residual MLP: small, fast, and enough for a few cameras."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from kinema.nets.base import Context, Trunk, TrunkConfig
from kinema.nets.blocks import ResidualBlock


@dataclass(frozen=True, kw_only=True)
class Fusion(TrunkConfig):
    """`blocks` residual blocks of the policy's width after the concatenation."""

    blocks: int = 2
    dropout: float = 0.0

    def build(self, *, tokens: int, width: int) -> FusionTrunk:
        """Return the trunk."""
        return FusionTrunk(self, tokens=tokens, width=width)


class FusionTrunk(Trunk):
    """Tokens (B, N, D) to one readout token named `action` (B, 1, D)."""

    def __init__(self, config: Fusion, *, tokens: int, width: int) -> None:
        super().__init__()
        self.mix = nn.Linear(tokens * width, width)
        self.blocks = nn.ModuleList([ResidualBlock(width, dropout=config.dropout) for _ in range(config.blocks)])
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, mask: Tensor) -> Context:
        """Return the context; absent tokens count as zero."""
        hidden = self.mix((tokens * mask[..., None]).flatten(1))
        for block in self.blocks:
            hidden = block(hidden)
        return Context(tokens=tokens, mask=mask, readout={"action": self.norm(hidden)[:, None]})
