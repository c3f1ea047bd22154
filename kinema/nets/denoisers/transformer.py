"""The transformer denoiser of Diffusion Policy (Chi et al. 2023, section 3.1).

The steps of the noisy chunk attend to those before them (causal), and to what is known: time, readout and tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kinema.core.errors import KinemaError
from kinema.nets.base import Context
from kinema.nets.blocks import sinusoidal
from kinema.nets.denoisers.base import Denoiser, DenoiserConfig

TIME_STEPS = 100.0
"""t counts as this many positions, so that with a hundred diffusion steps it is embedded as Diffusion Policy does."""


@dataclass(frozen=True, kw_only=True)
class Transformer(DenoiserConfig):
    """Pre-norm decoder layers; the defaults are the published sizes, without their dropout of 0.3."""

    layers: int = 8
    heads: int = 4
    hidden: int = 256
    dropout: float = 0.0

    def build(self, *, action_width: int, pred_horizon: int, width: int) -> TransformerDenoiser:
        """Return the module."""
        if self.layers < 1 or self.heads < 1 or self.hidden % self.heads or self.hidden % 2:
            raise KinemaError(
                f"transformer: layers {self.layers} and heads {self.heads} must be at least 1, "
                f"hidden {self.hidden} even and a multiple of heads"
            )
        return TransformerDenoiser(self, action_width=action_width, pred_horizon=pred_horizon, width=width)


class TransformerDenoiser(Denoiser):
    """Cross-attends to [t, readout tokens, tokens]; which of the three a memory token is, a learnt embedding says."""

    def __init__(self, config: Transformer, *, action_width: int, pred_horizon: int, width: int) -> None:
        super().__init__()
        hidden = config.hidden
        self.hidden = hidden
        self.enter = nn.Linear(action_width, hidden)
        self.position = nn.Parameter(torch.empty(pred_horizon, hidden))
        self.observe = nn.Linear(width, hidden)
        self.kind_embedding = nn.Parameter(torch.empty(3, hidden))
        self.remember = nn.Sequential(nn.Linear(hidden, 4 * hidden), nn.Mish(), nn.Linear(4 * hidden, hidden))
        self.layers = nn.ModuleList(
            [
                nn.TransformerDecoderLayer(
                    hidden, config.heads, 4 * hidden, config.dropout, "gelu", batch_first=True, norm_first=True
                )
                for _ in range(config.layers)
            ]
        )
        self.leave = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, action_width))
        future = torch.ones(pred_horizon, pred_horizon, dtype=torch.bool).triu(1)
        self.register_buffer("future", future, persistent=False)
        for name, parameter in self.named_parameters():  # as published: matrices N(0, 0.02), biases 0
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        """Return the prediction (B, H, A); step k of it depends on the steps of `x` up to k only."""
        memory, absent = self._memory(t, context)
        hidden = self.enter(x.to(memory.dtype)) + self.position
        for layer in self.layers:
            hidden = layer(hidden, memory, tgt_mask=self.future, memory_key_padding_mask=absent)
        return self.leave(hidden).float()

    def _memory(self, t: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """Return what is known (B, 1 + R + N, D), and which of it is absent."""
        readout = context.readout["action"]
        longest = 2 * math.pi * 1e4 / TIME_STEPS  # the wavelengths of Vaswani et al. 2017, in units of t
        time = sinusoidal(t, self.hidden, shortest=longest / 1e4, longest=longest).to(readout.dtype)
        tokens = context.tokens if context.positions is None else context.tokens + context.positions
        kinds = (time[:, None], self.observe(readout), self.observe(tokens))
        known = torch.cat([part + kind for part, kind in zip(kinds, self.kind_embedding, strict=True)], dim=1)
        present = context.mask.new_ones(len(t), 1 + readout.shape[1])
        return self.remember(known), ~torch.cat([present, context.mask], dim=1)
