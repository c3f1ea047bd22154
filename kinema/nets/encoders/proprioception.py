"""Vectors (hand position, gripper, joints) to one token, or one a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from kinema.core.errors import SpecMismatch
from kinema.core.spec import ObservationSpec
from kinema.nets.base import Encoder, EncoderConfig, Tokens


@dataclass(frozen=True, kw_only=True)
class Proprioception(EncoderConfig):
    """One vector of all observed steps; `dropout` is the chance that training hides it, so that the policy looks.

    With `hidden` None one linear layer is all. Each step makes a token of its own if `per_step`, for trunks that read
    step after step. `raw`, and per step, the numbers are the token, with zeros up to its width; `hidden` is None then.
    """

    vector: str = "proprioception"
    hidden: int | None = 128
    dropout: float = 0.0
    per_step: bool = False
    raw: bool = False
    condition: str | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The vector."""
        return (f"vector.{self.vector}",)

    def build(self, spec: ObservationSpec, *, obs_horizon: int, width: int) -> ProprioceptionEncoder:
        """Return the encoder; all steps together become one token, unless `per_step`."""
        if self.condition is not None:
            raise SpecMismatch(f"proprioception takes no condition, got {self.condition!r}")
        if not 0.0 <= self.dropout < 1.0:
            raise SpecMismatch(f"proprioception dropout {self.dropout} is outside [0, 1)")
        size = spec.shape(self.reads[0])[0]
        if self.raw and not (self.per_step and size <= width):
            raise SpecMismatch(
                f"proprioception: raw, vector {self.vector!r} of {size} numbers needs per_step and a width of as many, "
                f"got per_step {self.per_step}, width {width}"
            )
        if self.raw and self.hidden is not None:
            raise SpecMismatch(f"proprioception: raw numbers pass no layers, so hidden must be None, got {self.hidden}")
        return ProprioceptionEncoder(self, size=size, obs_horizon=obs_horizon, width=width)


class ProprioceptionEncoder(Encoder):
    """Normalised vectors (B, T, S) to one token (B, 1, D), or (B, T, D) if per step."""

    def __init__(self, config: Proprioception, *, size: int, obs_horizon: int, width: int) -> None:
        super().__init__()
        self.key = config.reads[0]
        self.dropout = config.dropout
        self.tokens, self.steps = (obs_horizon, obs_horizon) if config.per_step else (1, 0)
        hidden, inputs = config.hidden, size if config.per_step else size * obs_horizon
        if config.raw:
            self.filled = size
            self.layers: nn.Module = nn.ConstantPad1d((0, width - size), 0.0)
        elif hidden is None:
            self.layers = nn.Linear(inputs, width)
        else:
            self.layers = nn.Sequential(
                nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.SiLU(), nn.Linear(hidden, width)
            )

    def forward(self, sample: Mapping[str, Any], condition: Tensor | None) -> Tokens:
        """Return the tokens."""
        vectors = sample[self.key].float()
        return Tokens.present(self.layers(vectors.reshape(len(vectors), self.tokens, -1)))
