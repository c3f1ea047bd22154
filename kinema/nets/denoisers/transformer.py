"""The transformer denoiser of Diffusion Policy (Chi et al. 2023, section 3.1).

The steps of the noisy chunk attend to those before them (causal, as published) or to all, and to what is known: time,
readout and tokens.
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
    """Pre-norm decoder layers; the defaults are the published sizes, without their dropout of 0.3.

    With `steps` what is known is one readout token for each of so many observed steps, each with an embedding of its
    own. As published, step k of the chunk then attends to the first k + 1 of them only, and to the steps of the chunk
    before it. That costs coherence: each step takes one of several ways by what it sees, and later ones see more. With
    `causal` False all see all, and chunks are more often of one piece (docs/heads.md).
    """

    layers: int = 8
    heads: int = 4
    hidden: int = 256
    dropout: float = 0.0
    steps: int | None = None
    causal: bool = True

    def build(self, *, action_width: int, pred_horizon: int, width: int) -> TransformerDenoiser:
        """Return the module."""
        wanted = (self.layers, self.heads, 1 if self.steps is None else self.steps)
        if min(wanted) < 1 or self.hidden % self.heads or self.hidden % 2:
            raise KinemaError(
                f"transformer: layers {self.layers}, heads {self.heads} and steps {self.steps} must be at least 1, "
                f"hidden {self.hidden} even and a multiple of heads"
            )
        return TransformerDenoiser(self, action_width=action_width, pred_horizon=pred_horizon, width=width)


class TransformerDenoiser(Denoiser):
    """Cross-attends to [t, readout tokens, tokens]; which of the three a memory token is, a learnt embedding says.

    With `steps` it is [t, readout tokens], and the embedding says which step.
    """

    def __init__(self, config: Transformer, *, action_width: int, pred_horizon: int, width: int) -> None:
        super().__init__()
        hidden = config.hidden
        self.hidden, self.steps = hidden, config.steps
        self.enter = nn.Linear(action_width, hidden)
        self.position = nn.Parameter(torch.empty(pred_horizon, hidden))
        self.observe = nn.Linear(width, hidden)
        self.kind_embedding = nn.Parameter(torch.empty(1 + (config.steps or 2), hidden))
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
        self.register_buffer("future", future if config.causal else None, persistent=False)
        ahead = torch.ones(pred_horizon, 1 + (config.steps or 0), dtype=torch.bool).triu(2)
        self.register_buffer("ahead", ahead if config.causal and config.steps else None, persistent=False)
        for name, parameter in self.named_parameters():  # as published: matrices N(0, 0.02), biases 0
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        """Return the prediction (B, H, A); if causal, step k of it depends on the steps of `x` up to k only."""
        memory, absent = self._memory(t, context)
        hidden = self.enter(x.to(memory.dtype)) + self.position
        for layer in self.layers:
            hidden = layer(hidden, memory, tgt_mask=self.future, memory_mask=self.ahead, memory_key_padding_mask=absent)
        return self.leave(hidden).float()

    def _memory(self, t: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """Return what is known (B, 1 + R + N, D), or (B, 1 + R, D) with `steps`, and which of it is absent."""
        readout = context.readout["action"]
        longest = 2 * math.pi * 1e4 / TIME_STEPS  # the wavelengths of Vaswani et al. 2017, in units of t
        time = sinusoidal(t, self.hidden, shortest=longest / 1e4, longest=longest).to(readout.dtype)
        if self.steps is not None:
            if readout.shape[1] != self.steps:
                raise KinemaError(f"transformer: {readout.shape[1]} readout tokens for steps {self.steps}")
            known = torch.cat([time[:, None], self.observe(readout)], dim=1) + self.kind_embedding
            return self.remember(known), context.mask.new_zeros(known.shape[:2])
        tokens = context.tokens if context.positions is None else context.tokens + context.positions
        kinds = (time[:, None], self.observe(readout), self.observe(tokens))
        known = torch.cat([part + kind for part, kind in zip(kinds, self.kind_embedding, strict=True)], dim=1)
        present = context.mask.new_ones(len(t), 1 + readout.shape[1])
        return self.remember(known), ~torch.cat([present, context.mask], dim=1)
