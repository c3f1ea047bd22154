"""The transformer of VQ-BeT (Lee et al. 2024): a small GPT over the observed steps, each closed by a query for actions.

As in the authors' code every token reads those before it and itself; a query stands after the tokens of each step, and
the last one, which reads all of them, is what the head gets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kinema.core.errors import KinemaError
from kinema.nets.attention import MaskedAttention, readable
from kinema.nets.base import Context, Group, Tokens, Trunk, TrunkConfig
from kinema.nets.steps import observed_steps, token_steps


@dataclass(frozen=True, kw_only=True)
class Gpt(TrunkConfig):
    """Pre-norm layers of the policy's width; `places` rows of learnt positions, by default as many as tokens."""

    layers: int = 8
    heads: int = 8
    dropout: float = 0.1
    places: int | None = None

    def build(self, groups: Sequence[Group], *, width: int) -> GptTrunk:
        """Return the trunk."""
        length = sum(group.tokens for group in groups) + observed_steps("gpt", groups)
        if self.layers < 1 or (self.places is not None and self.places < length):
            raise KinemaError(
                f"gpt: layers {self.layers} must be at least 1, places {self.places} at least {length}, the tokens"
            )
        return GptTrunk(self, groups, length=length, width=width)


class GptTrunk(Trunk):
    """Tokens (B, N, D) to one for each step (B, T, D); the readout `action` (B, 1, D) is that of the newest."""

    order: Tensor
    queries: Tensor
    before: Tensor

    def __init__(self, config: Gpt, groups: Sequence[Group], *, length: int, width: int) -> None:
        super().__init__()
        of = token_steps(groups)
        of = [*of, *range(max(of) + 1)]  # the queries come last of their step: sorting keeps the order
        order, self.steps = sorted(range(length), key=lambda token: of[token]), max(of) + 1
        queries = [place for place, token in enumerate(order) if token >= length - self.steps]
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.register_buffer("queries", torch.tensor(queries), persistent=False)
        self.register_buffer("before", torch.ones(length, length, dtype=torch.bool).tril(), persistent=False)
        self.query = nn.Parameter(torch.randn(1, 1, width))
        self.enter = nn.Linear(width, width)
        self.positions = nn.Embedding(config.places or length, width)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList([_Layer(config, width=width) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, width, bias=False)
        for part in self.modules():  # as GPT-2 begins
            if isinstance(part, (nn.Linear, nn.Embedding)):
                nn.init.normal_(part.weight, std=0.02)
            if isinstance(part, nn.Linear) and part.bias is not None:
                nn.init.zeros_(part.bias)
        for part in self.modules():
            if isinstance(part, MaskedAttention):
                nn.init.normal_(part.leave.weight, std=0.02 / math.sqrt(2 * config.layers))

    def forward(self, tokens: Tokens) -> Context:
        """Return the context; absent tokens are zero, and read by no other."""
        queries = self.query.expand(len(tokens.values), self.steps, -1)
        values = torch.cat([tokens.values * tokens.mask[..., None], queries.to(tokens.values.dtype)], dim=1)
        present = torch.cat([tokens.mask, tokens.mask.new_ones(queries.shape[:2])], dim=1)[:, self.order]
        reads = readable(self.before, present)[:, None]
        hidden = self.dropout(self.enter(values[:, self.order]) + self.positions.weight[: len(self.order)])
        for layer in self.layers:
            hidden = layer(hidden, reads)
        made = self.leave(self.norm(hidden))[:, self.queries]
        return Context(tokens=made, mask=present[:, self.queries], readout={"action": made[:, -1:]})


class _Layer(nn.Module):
    """Attention and a residual MLP. LeRobot's attention is dropped out in its weights and results."""

    def __init__(self, config: Gpt, *, width: int) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = MaskedAttention(width, heads=config.heads, dropout=config.dropout)
        self.dropout = nn.Dropout(config.dropout)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(config.dropout)
        )

    def forward(self, x: Tensor, reads: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm_attention(x), reads))
        return x + self.mlp(self.norm_mlp(x))
