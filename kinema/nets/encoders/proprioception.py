"""Vectors (hand position, gripper, joints) to one token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kinema.core.errors import SpecMismatch
from kinema.core.spec import ObservationSpec
from kinema.nets.base import Encoder, EncoderConfig


@dataclass(frozen=True, kw_only=True)
class Proprioception(EncoderConfig):
    """One vector of all observed steps; `dropout` is the chance that training hides it, which makes the policy look.

    With `hidden` None one linear layer is all.
    """

    vector: str = "proprioception"
    hidden: int | None = 128
    dropout: float = 0.0
    condition: str | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The vector."""
        return (f"vector.{self.vector}",)

    def build(self, spec: ObservationSpec, *, obs_horizon: int, width: int) -> ProprioceptionEncoder:
        """Return the encoder; all steps together become one token."""
        if self.condition is not None:
            raise SpecMismatch(f"proprioception takes no condition, got {self.condition!r}")
        if not 0.0 <= self.dropout < 1.0:
            raise SpecMismatch(f"proprioception dropout {self.dropout} is outside [0, 1)")
        return ProprioceptionEncoder(self, inputs=obs_horizon * spec.shape(self.reads[0])[0], width=width)


class ProprioceptionEncoder(Encoder):
    """Normalised vectors (B, T, S) to one token (B, 1, D)."""

    tokens = 1

    def __init__(self, config: Proprioception, *, inputs: int, width: int) -> None:
        super().__init__()
        self.key = config.reads[0]
        self.dropout = config.dropout
        hidden = config.hidden
        self.layers = (
            nn.Linear(inputs, width)
            if hidden is None
            else nn.Sequential(nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.SiLU(), nn.Linear(hidden, width))
        )
        self.hidden_token = nn.Parameter(torch.zeros(width)) if config.dropout > 0 else None

    def forward(self, sample: Mapping[str, Any], condition: Tensor | None) -> Tensor:
        """Return the token, or the learned stand-in where training hides the vector."""
        token = self.layers(sample[self.key].float().flatten(1))
        if self.training and self.hidden_token is not None:
            hide = torch.rand(len(token), 1, device=token.device) < self.dropout
            token = torch.where(hide, self.hidden_token.to(token.dtype), token)
        return token[:, None]
