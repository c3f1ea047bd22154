"""One choice among bins for every number of a chunk, all at once (Brohan et al. 2022, "RT-1").

Every component of every step is drawn by itself: where two of them belong together the draws mix what was never
demonstrated together. The head that keeps them together is `kinema.heads.autoregressive`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from kinema.actions.bins import Bins
from kinema.actions.codec import Elementwise
from kinema.core.errors import KinemaError
from kinema.heads._losses import step_mean
from kinema.heads._rows import SaysTokens
from kinema.heads.base import Head
from kinema.nets.base import Context
from kinema.nets.blocks import ResidualMlp
from kinema.nets.codec_table import CodecTable
from kinema.nets.noise import Rng, draw, uniform


@dataclass(frozen=True, kw_only=True)
class Categorical(SaysTokens):
    """`codec` says what the bins are; `temperature` 0 acts with the most likely bin, as RT-1 does.

    The first readout token says all numbers, through `blocks` residual blocks; if `each`, as in RT-1, the first H * A
    say one each, through one linear layer.
    """

    codec: Elementwise = Bins(convention="openvla")  # noqa: RUF009 - frozen
    temperature: float = 1.0
    blocks: int = 3
    each: bool = False

    def build(self, *, action_width: int, pred_horizon: int, width: int) -> CategoricalHead:
        """Return the head."""
        self.check_temperature("categorical")
        return CategoricalHead(self, action_width=action_width, pred_horizon=pred_horizon, width=width)


class CategoricalHead(Head):
    """Readout `action` (B, R, D) to logits (B, H, A, V) over the codec's V tokens."""

    def __init__(self, config: Categorical, *, action_width: int, pred_horizon: int, width: int) -> None:
        super().__init__()
        self.config = config
        self.table = CodecTable(config.codec)
        self.shape = (pred_horizon, action_width, config.codec.size)
        self.count, said = (pred_horizon * action_width, 1) if config.each else (1, pred_horizon * action_width)
        size = said * config.codec.size
        self.predict = nn.Linear(width, size) if config.each else ResidualMlp(width, size, blocks=config.blocks)

    def logits(self, context: Context) -> Tensor:
        """Return the logits (B, H, A, V)."""
        readout = context.readout["action"]
        if readout.shape[1] < self.count:
            raise KinemaError(f"categorical: {self.count} numbers want a readout token each, got {readout.shape[1]}")
        return self.predict(readout[:, : self.count]).float().view(-1, *self.shape)

    def loss(self, context: Context, action: Tensor, mask: Tensor, *, rng: Rng) -> Tensor:
        """Return the cross-entropy averaged over action components, per step."""
        log_prob = self.logits(context).log_softmax(-1).gather(-1, self.table.encode(action)[..., None])[..., 0]
        # What is not finite has no token: the loss is then no number either, instead of that of the last bin.
        return step_mean(0.0 * action.detach() - log_prob, mask)

    def sample(self, context: Context, *, rng: Rng) -> Tensor:
        """Return chunks of drawn bins."""
        logits = self.logits(context)
        noise = uniform((*logits.shape[:-1], 1), rng, logits.device)
        return self.table.decode(draw(logits, noise, temperature=self.config.temperature)[..., 0])
