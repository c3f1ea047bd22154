"""All that is observed as one vector, as Diffusion Policy conditions its denoiser (Chi et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kinema.core.errors import KinemaError
from kinema.nets.base import Context, Group, Tokens, Trunk, TrunkConfig
from kinema.nets.steps import columns, step_rows, token_steps


@dataclass(frozen=True, kw_only=True)
class Concatenate(TrunkConfig):
    """One vector of all steps, or, `by_step`, a vector of each: the context is as wide as that.

    Of tokens that their encoder does not fill, what is filled counts. Tokens of no step come first, and by step in
    every vector.
    """

    by_step: bool = False

    def build(self, groups: Sequence[Group], *, width: int) -> ConcatenateTrunk:
        """Return the trunk."""
        if any(not group.name for group in groups):
            raise KinemaError("concatenate: heads that give the trunk a token of their own need another trunk")
        return ConcatenateTrunk(self, groups, width=width)


class ConcatenateTrunk(Trunk):
    """Tokens (B, N, D) to the readout `action` (B, 1, W), or (B, T, W) by step, which is all of the context."""

    chosen: Tensor

    def __init__(self, config: Concatenate, groups: Sequence[Group], *, width: int) -> None:
        super().__init__()
        of = token_steps(groups)
        rows = step_rows("concatenate by step", groups) if config.by_step else [list(range(len(of)))]
        chosen = columns(groups, [sorted(row, key=lambda token: of[token]) for row in rows], width)
        self.context_width = len(chosen[0])
        self.register_buffer("chosen", torch.tensor(chosen), persistent=False)

    def forward(self, tokens: Tokens) -> Context:
        """Return the context; absent tokens count as zero."""
        made = (tokens.values * tokens.mask[..., None]).flatten(1)[:, self.chosen]
        return Context(tokens=made, mask=tokens.mask.new_ones(made.shape[:2]), readout={"action": made})
