"""No trunk: what the encoders make is what the head reads, as Diffusion Policy has it (Chi et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kinema.nets.base import Context, Group, Tokens, Trunk, TrunkConfig


@dataclass(frozen=True, kw_only=True)
class Identity(TrunkConfig):
    """Nothing to choose."""

    def build(self, groups: Sequence[Group], *, width: int) -> IdentityTrunk:
        """Return the trunk."""
        return IdentityTrunk()


class IdentityTrunk(Trunk):
    """The readout `action` (B, N, D) is all tokens."""

    def forward(self, tokens: Tokens) -> Context:
        """Return the context; absent tokens are zero."""
        values = tokens.values * tokens.mask[..., None]
        return Context(tokens=values, mask=tokens.mask, readout={"action": values}, positions=tokens.positions)
