"""The action expert of pi0: smaller layers beside the trunk's, with one attention over both (Black et al. 2024).

Its tokens are the state and the noisy actions, two blocks after the trunk's: the state reads the trunk's tokens and
itself, the actions read everything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kinema.nets.attention import after
from kinema.nets.base import Context
from kinema.nets.denoisers.base import Denoiser, DenoiserConfig
from kinema.nets.experts import ActionTokens, check_wordless, keys_and_values
from kinema.nets.language.decoder import DecoderModel
from kinema.nets.language.sizes import TINY, Decoder

TINY_EXPERT = replace(TINY, width=64, hidden=176, vocabulary=0)
"""Beside a trunk of the size TINY."""


@dataclass(frozen=True, kw_only=True)
class Expert(DenoiserConfig):
    """Layers of `size`: as many as the trunk's, with as many heads of keys, as wide; the rest is free."""

    size: Decoder = TINY_EXPERT

    @property
    def private_width(self) -> int:
        """The state's tokens are as wide as the layers."""
        return self.size.width

    def build(self, *, action_width: int, pred_horizon: int, width: int) -> ExpertDenoiser:
        """Return the module."""
        check_wordless(self.size)
        return ExpertDenoiser(self.size, action_width=action_width)


class ExpertDenoiser(Denoiser):
    """The head's private tokens are the state; without any there are only actions."""

    reads_kv = True

    def __init__(self, size: Decoder, *, action_width: int) -> None:
        super().__init__()
        self.size = size
        self.actions = ActionTokens(action_width, size.width)
        self.model = DecoderModel(size)

    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        """Return the prediction (B, H, A)."""
        tokens, steps = self.actions(x, t), x.shape[1]
        if context.private is not None:
            tokens = torch.cat([context.private.to(tokens), tokens], dim=1)
        begins = torch.zeros(tokens.shape[1], dtype=torch.bool, device=x.device)
        begins[0] = begins[-steps] = True
        mask, positions = after(context.mask, begins)
        hidden, _ = self.model(tokens, positions, mask, keys_and_values(context, self.size))
        return self.actions.leave(hidden[:, -steps:]).float()
