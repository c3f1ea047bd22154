"""A recurrent trunk: what it saw at one step reaches later ones only through its state (Mandlekar et al. 2021, BC-RNN).

robomimic trains on sequences of 10 steps that begin with an empty state, and when acting empties the state every 10
steps, so that it acts on 1 to 10 steps of memory. Here the policy sees the last `obs_horizon` steps at once and the
state is empty before the first of them: `obs_horizon` 10 always has the 10 steps of memory that training has, and no
state outlives the window, which costs 10 steps of the recurrence for each chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kinema.core.errors import KinemaError
from kinema.nets.base import Context, Group, Tokens, Trunk, TrunkConfig
from kinema.nets.steps import columns, step_rows


@dataclass(frozen=True, kw_only=True)
class Lstm(TrunkConfig):
    """`layers` layers of as many units as the policy is wide; `dropout` between them."""

    layers: int = 2
    dropout: float = 0.0

    def build(self, groups: Sequence[Group], *, width: int) -> LstmTrunk:
        """Return the trunk."""
        if self.layers < 1 or not 0.0 <= self.dropout < 1.0 or (self.dropout and self.layers == 1):
            raise KinemaError(
                f"lstm: layers {self.layers} must be at least 1, dropout {self.dropout} in [0, 1) and 0 with one layer"
            )
        return LstmTrunk(self, groups, width=width)


class LstmTrunk(Trunk):
    """Tokens (B, N, D) to one a step (B, T, D); the readout `action` (B, 1, D) is the newest.

    Each step reads its own tokens, one after the other, and those of no step, as the instruction. Of tokens that their
    encoder does not fill it reads what is filled.
    """

    read: Tensor

    def __init__(self, config: Lstm, groups: Sequence[Group], *, width: int) -> None:
        super().__init__()
        read = columns(groups, step_rows("lstm", groups), width)
        self.register_buffer("read", torch.tensor(read), persistent=False)
        self.lstm = nn.LSTM(len(read[0]), width, num_layers=config.layers, dropout=config.dropout, batch_first=True)

    def forward(self, tokens: Tokens) -> Context:
        """Return the context; absent tokens count as zero."""
        values = tokens.values * tokens.mask[..., None]
        hidden, _ = self.lstm(values.flatten(1)[:, self.read])
        made = Tokens.present(hidden)
        return Context(tokens=hidden, mask=made.mask, readout={"action": hidden[:, -1:]})
