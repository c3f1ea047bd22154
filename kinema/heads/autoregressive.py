"""Chunks as sentences: token after token, each given those before it (Brohan et al. 2023, "RT-2"; Kim et al. 2024).

What belongs together is drawn together, unlike in `kinema.heads.categorical`. The order is that of the codec: of an
elementwise one all components of the first step, then all of the second; of FAST its own. The head has its own small
decoder, which reads the context's tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from kinema.actions.bins import Bins
from kinema.actions.codec import Codec, Unfitted
from kinema.heads._rows import Rows, SaysTokens
from kinema.heads.base import Head
from kinema.nets.base import Context
from kinema.nets.causal_decoder import CausalDecoder
from kinema.nets.noise import Rng


@dataclass(frozen=True, kw_only=True)
class Autoregressive(SaysTokens):
    """`codec` says what the tokens are; `temperature` 0 acts with the most likely token at every place."""

    codec: Codec | Unfitted = Bins(convention="openvla")  # noqa: RUF009 - frozen
    temperature: float = 1.0
    blocks: int = 2
    heads: int = 4

    def build(self, *, action_width: int, pred_horizon: int, width: int) -> AutoregressiveHead:
        """Return the head."""
        self.check_temperature("autoregressive")
        return AutoregressiveHead(self, action_width=action_width, pred_horizon=pred_horizon, width=width)


class AutoregressiveHead(Head):
    """The context's tokens (B, N, D) to rows of action tokens (B, L), and these to chunks (B, H, A)."""

    def __init__(self, config: Autoregressive, *, action_width: int, pred_horizon: int, width: int) -> None:
        super().__init__()
        self.config = config
        self.rows = Rows(config.codec, pred_horizon=pred_horizon, action_width=action_width)
        codec, length = self.rows.codec, self.rows.length
        self.decoder = CausalDecoder(
            vocabulary=codec.size, length=length, width=width, blocks=config.blocks, heads=config.heads
        )

    def loss(self, context: Context, action: Tensor, mask: Tensor, *, rng: Rng) -> Tensor:
        """Return the mean cross-entropy of each step's tokens, those before them given.

        Where tokens are of the whole chunk, its real steps share the mean over the chunk's tokens.
        """
        tokens, learnt = self.rows.encode(action, mask)
        logits = self.decoder(tokens, learnt, context)
        error = F.cross_entropy(logits.transpose(1, 2), tokens, reduction="none")
        return self.rows.loss(error, learnt, action, mask)

    def sample(self, context: Context, *, rng: Rng) -> Tensor:
        """Return chunks of tokens drawn one after the other.

        A row that the codec cannot read becomes zeros, as pi0-FAST does it, and a warning says how many there were.
        """
        tokens = self.rows.drawn(
            self.decoder.step,
            self.decoder.remember(context),
            temperature=self.config.temperature,
            rng=rng,
            like=context.tokens,
        )
        return self.rows.decode(tokens, context.own)
