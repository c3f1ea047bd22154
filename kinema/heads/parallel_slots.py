"""All numbers of a chunk in one pass of the trunk: empty slots after the prompt that see it and each other.

OpenVLA-OFT (Kim et al. 2025, "Fine-Tuning Vision-Language-Action Models", section IV): parallel decoding, chunks, and
the absolute error of numbers that a small network reads from the slots, instead of H x A words one after the other.
It learns the median of every component, the way of the majority, where `text_tokens` learns what belongs together.

The published code lets the prompt see the slots too, and reads each slot one place early; here the prompt is what it
is without slots, so that a trunk is shared with other heads, and each slot is read at its own place.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from kinema.core.errors import KinemaError
from kinema.heads._losses import step_mean
from kinema.heads.base import Head, HeadConfig, going_on
from kinema.nets.base import Context
from kinema.nets.noise import Rng


@dataclass(frozen=True, kw_only=True)
class ParallelSlots(HeadConfig):
    """`blocks` residual blocks as wide as the policy turn the A slots of a step into its A numbers."""

    blocks: int = 2

    @property
    def goes_on(self) -> bool:
        """Always."""
        return True

    def build(self, *, action_width: int, pred_horizon: int, width: int) -> ParallelSlotsHead:
        """Return the head."""
        if self.blocks < 0:
            raise KinemaError(f"parallel_slots: blocks {self.blocks} must be at least 0")
        return ParallelSlotsHead(self, action_width=action_width, pred_horizon=pred_horizon, width=width)


class ParallelSlotsHead(Head):
    """What the trunk makes of H x A empty slots, to a chunk (B, H, A)."""

    def __init__(self, config: ParallelSlots, *, action_width: int, pred_horizon: int, width: int) -> None:
        super().__init__()
        self.shape = (pred_horizon, action_width)
        size = action_width * width
        self.enter = nn.Sequential(nn.LayerNorm(size), nn.Linear(size, width), nn.ReLU())
        self.blocks = nn.ModuleList(
            [nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU()) for _ in range(config.blocks)]
        )
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, action_width))

    def loss(self, context: Context, action: Tensor, mask: Tensor, *, rng: Rng) -> Tensor:
        """Return the absolute error averaged over action components, per step."""
        return step_mean((self._chunk(context) - action).abs(), mask)

    def sample(self, context: Context, *, rng: Rng) -> Tensor:
        """Return the prediction; `rng` is not needed, as there is nothing to draw."""
        return self._chunk(context)

    def _chunk(self, context: Context) -> Tensor:
        extend, past = going_on(context, self)
        horizon, width = self.shape
        batch, _, size = context.readout["action"].shape
        empty = context.readout["action"].new_zeros(batch, horizon * width, size)
        slots, _ = extend.extend(empty, past, context.mask, causal=False)
        values = self.enter(slots.reshape(batch, horizon, width * size))
        for block in self.blocks:
            values = values + block(values)
        return self.leave(values).float()
