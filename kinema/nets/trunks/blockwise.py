"""The transformer of Octo (2024): blocks of tokens by step, and readouts that read them but that they never read.

As nothing but a readout's own later steps reads it, a policy can be given further readouts, for other heads, without
any change to what it computes for those it has; and what is absent (a camera, an instruction) is masked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from kinema.core.errors import KinemaError
from kinema.nets.attention import MaskedAttention, readable
from kinema.nets.base import Context, Group, Tokens, Trunk, TrunkConfig
from kinema.nets.steps import observed_steps, token_steps


@dataclass(frozen=True, kw_only=True)
class Blockwise(TrunkConfig):
    """`layers` layers of `heads` heads and `hidden` units; `readouts` says how many tokens a step each has.

    Positions are learnt for `max_horizon` steps, so that more can be observed later than were in training.
    """

    layers: int = 4
    heads: int = 8
    hidden: int = 1024
    readouts: Mapping[str, int] = field(default_factory=lambda: {"action": 1})
    max_horizon: int = 10
    dropout: float = 0.0

    def build(self, groups: Sequence[Group], *, width: int) -> BlockwiseTrunk:
        """Return the trunk."""
        steps = observed_steps("blockwise", groups)
        if steps > self.max_horizon:
            raise KinemaError(f"blockwise: {steps} steps are observed, max_horizon is {self.max_horizon}")
        if self.readouts.get("action", 0) < 1 or min(self.readouts.values()) < 1:
            raise KinemaError(
                f"blockwise: readouts {dict(self.readouts)}; expected 'action', and each of at least 1 token"
            )
        return BlockwiseTrunk(self, groups, width=width)


class BlockwiseTrunk(Trunk):
    """Tokens (B, N, D) to as many; each readout (B, R, D) is that of the newest step.

    Tokens of no step, as an instruction, read each other. Tokens of a step read them and those of steps up to their
    own. Readouts read the same, and themselves at steps up to their own (Octo, figure 2).
    """

    reads: Tensor

    def __init__(self, config: Blockwise, groups: Sequence[Group], *, width: int) -> None:
        super().__init__()
        self.steps, self.counts = observed_steps("blockwise", groups), dict(config.readouts)
        self.sizes = [(f"group_{group.name}", group.tokens, group.steps) for group in groups]
        self.sizes += [(f"readout_{name}", count * self.steps, self.steps) for name, count in self.counts.items()]
        self.positions = nn.ParameterDict(
            {name: _positions(tokens, steps, config.max_horizon, width) for name, tokens, steps in self.sizes}
        )
        self.register_buffer("reads", torch.tensor(reading(groups, self.counts)), persistent=False)
        self.layers = nn.ModuleList([_Layer(config, width=width) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, tokens: Tokens) -> Context:
        """Return the context; absent tokens are zero, and read by no other."""
        count, batch = tokens.mask.shape[1], len(tokens.mask)
        places = torch.cat(
            [self.positions[name][: steps or None].reshape(size, -1) for name, size, steps in self.sizes]
        )
        values = tokens.values * tokens.mask[..., None] + places[:count]
        hidden = torch.cat([values, places[count:].expand(batch, -1, -1)], dim=1)
        present = torch.cat([tokens.mask, tokens.mask.new_ones(batch, len(places) - count)], dim=1)
        reads = readable(self.reads, present)[:, None]
        for layer in self.layers:
            hidden = layer(hidden, reads)
        made, *read = self.norm(hidden).split([count, *(own * self.steps for own in self.counts.values())], dim=1)
        newest = {name: value[:, -own:] for (name, own), value in zip(self.counts.items(), read, strict=True)}
        return Context(tokens=made, mask=tokens.mask, readout=newest)


def reading(groups: Sequence[Group], readouts: Mapping[str, int]) -> list[list[bool]]:
    """Return for each token of the groups, then of the readouts step by step, which of all it reads."""
    total = observed_steps("blockwise", groups)
    tokens = [("", step) for step in token_steps(groups)]
    tokens += [(name, step) for name, count in readouts.items() for step in range(total) for _ in range(count)]
    return [[other in ("", own) and before <= step for other, before in tokens] for own, step in tokens]


def _positions(tokens: int, steps: int, horizon: int, width: int) -> nn.Parameter:
    shape = (horizon, tokens // steps, width) if steps else (tokens, width)
    return nn.Parameter(0.02 * torch.randn(shape))


class _Layer(nn.Module):
    """A pre-norm transformer layer, as of a vision transformer."""

    def __init__(self, config: Blockwise, *, width: int) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention = MaskedAttention(width, heads=config.heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, config.hidden),
            nn.GELU(approximate="tanh"),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, width),
        )
        self.dropout = nn.Dropout(config.dropout)
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight)
                nn.init.zeros_(part.bias)

    def forward(self, x: Tensor, reads: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm_attention(x), reads))
        return x + self.dropout(self.mlp(self.norm_mlp(x)))
