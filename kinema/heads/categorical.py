"""One choice among bins for every number of a chunk, all at once (Brohan et al. 2022, "RT-1").

Every component of every step is drawn by itself: where two of them belong together the draws mix what was never
demonstrated together. The head that keeps them together is `kinema.heads.autoregressive`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kinema.actions.bins import Bins
from kinema.actions.codec import Elementwise
from kinema.core.errors import KinemaError
from kinema.heads.base import Head, HeadConfig, step_mean
from kinema.nets.base import Context, Rng, draw, uniform
from kinema.nets.blocks import ResidualMlp
from kinema.nets.codec_table import CodecTable


@dataclass(frozen=True, kw_only=True)
class Categorical(HeadConfig):
    """`codec` says what the bins are; `temperature` 0 acts with the most likely bin, as RT-1 does."""

    codec: Elementwise = Bins(convention="openvla")  # noqa: RUF009 - frozen
    temperature: float = 1.0
    blocks: int = 3

    @property
    def bounded(self) -> bool:
        """Where the codec's bins cover no more than [-1, 1]."""
        return isinstance(self.codec, Bins) and max(-self.codec.low, self.codec.high) <= 1.0

    def build(self, *, action_width: int, pred_horizon: int, width: int) -> CategoricalHead:
        """Return the head."""
        if not self.temperature >= 0:
            raise KinemaError(f"categorical: temperature {self.temperature} must be at least 0")
        return CategoricalHead(self, action_width=action_width, pred_horizon=pred_horizon, width=width)


class CategoricalHead(Head):
    """Readout `action` (B, 1, D) to logits (B, H, A, V) over the codec's V tokens."""

    def __init__(self, config: Categorical, *, action_width: int, pred_horizon: int, width: int) -> None:
        super().__init__()
        self.config = config
        self.table = CodecTable(config.codec)
        self.shape = (pred_horizon, action_width, config.codec.size)
        self.predict = ResidualMlp(width, pred_horizon * action_width * config.codec.size, blocks=config.blocks)

    def logits(self, context: Context) -> Tensor:
        """Return the logits (B, H, A, V)."""
        return self.predict(context.readout["action"][:, 0]).float().view(-1, *self.shape)

    def loss(self, context: Context, action: Tensor, mask: Tensor, *, rng: torch.Generator) -> Tensor:
        """Return the cross-entropy averaged over action components, per step."""
        log_prob = self.logits(context).log_softmax(-1).gather(-1, self.table.encode(action)[..., None])[..., 0]
        # What is not finite has no token: the loss is then no number either, instead of that of the last bin.
        return step_mean(0.0 * action.detach() - log_prob, mask)

    def sample(self, context: Context, *, rng: Rng) -> Tensor:
        """Return chunks of drawn bins."""
        logits = self.logits(context)
        noise = uniform((*logits.shape[:-1], 1), rng, logits.device)
        return self.table.decode(draw(logits, noise, temperature=self.config.temperature)[..., 0])
