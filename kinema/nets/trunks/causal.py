"""The decoder of RT-1 (Brohan et al. 2022): a transformer over the tokens of several steps, which read no later ones.

As in the authors' code (`transformer_network.py`) the tokens that stand for the action are all zero, read no action and
are read by none: the components of an action are read out in parallel, each at the place before its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kinema.core.errors import KinemaError, unknown
from kinema.nets.attention import MaskedAttention, readable
from kinema.nets.base import Context, Group, Tokens, Trunk, TrunkConfig
from kinema.nets.steps import observed_steps, token_steps


@dataclass(frozen=True, kw_only=True)
class Causal(TrunkConfig):
    """`layers` layers of `heads` heads of `head_width` numbers; `readouts` tokens are for the head.

    Tokens of the encoders in `ignores` are not read, as RT-1's instruction, which only modulates the images.
    """

    layers: int = 8
    heads: int = 8
    head_width: int = 128
    readouts: int = 1
    ignores: tuple[str, ...] = ()
    dropout: float = 0.1

    def build(self, groups: Sequence[Group], *, width: int) -> CausalTrunk:
        """Return the trunk."""
        names = [group.name for group in groups]
        for name in self.ignores:
            if name not in names:
                raise unknown("encoder that the causal trunk ignores", name, names)
        if min(self.layers, self.readouts, self.head_width) < 1:
            raise KinemaError(
                f"causal: layers {self.layers}, readouts {self.readouts} and head_width {self.head_width} "
                "must be at least 1"
            )
        return CausalTrunk(self, groups, width=width)


class CausalTrunk(Trunk):
    """Tokens (B, N, D) to as many, in the order of steps, those of no step first.

    The readout `action` (B, R, D) is the last of them and R - 1 empty ones, which read all of them.
    """

    order: Tensor
    reads: Tensor

    def __init__(self, config: Causal, groups: Sequence[Group], *, width: int) -> None:
        super().__init__()
        observed_steps("causal", groups)
        read = [group.name not in config.ignores for group in groups for _ in range(group.tokens)]
        steps = token_steps(groups)
        order = sorted((token for token, own in enumerate(read) if own), key=lambda token: steps[token])
        self.readouts, self.length = config.readouts, len(order) + config.readouts - 1
        place = torch.arange(self.length)
        self.register_buffer("order", torch.tensor(order), persistent=False)
        reads = (place <= place[:, None]) & (place < len(order))
        self.register_buffer("reads", reads, persistent=False)
        self.enter = nn.Linear(width, width)
        self.positions = nn.Parameter(0.02 * torch.randn(self.length, width))
        self.layers = nn.ModuleList([_Layer(config, width=width) for _ in range(config.layers)])

    def forward(self, tokens: Tokens) -> Context:
        """Return the context; absent tokens are zero, and read by no other."""
        mask = tokens.mask[:, self.order]
        values = tokens.values[:, self.order] * mask[..., None]
        empty = values.new_zeros(len(values), self.readouts - 1, values.shape[-1])
        hidden = self.enter(torch.cat([values, empty], dim=1)) + self.positions
        present = torch.cat([mask, mask.new_ones(empty.shape[:2])], dim=1)
        reads = readable(self.reads, present)[:, None]
        for layer in self.layers:
            hidden = layer(hidden, reads)
        made = hidden[:, : mask.shape[1]]
        return Context(tokens=made, mask=mask, readout={"action": hidden[:, -self.readouts :]})


class _Layer(nn.Module):
    """Pre-norm attention, then a pre-norm linear layer: RT-1's has neither a hidden layer nor a nonlinearity."""

    def __init__(self, config: Causal, *, width: int) -> None:
        super().__init__()
        self.norm_attention, self.norm_linear = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention = MaskedAttention(
            width, heads=config.heads, head_width=config.head_width, dropout=config.dropout
        )
        self.linear = nn.Sequential(nn.Linear(width, width), nn.Dropout(config.dropout))

    def forward(self, x: Tensor, reads: Tensor) -> Tensor:
        x = x + self.attention(self.norm_attention(x), reads)
        return x + self.linear(self.norm_linear(x))
