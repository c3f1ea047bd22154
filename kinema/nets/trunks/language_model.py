"""A language model that reads all tokens, words by their embeddings: the trunk of vision-language-action models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinema.core.errors import KinemaError, nearest, unknown
from kinema.nets.attention import after, block_mask, readable
from kinema.nets.base import KV, Context, Extend, Group, Tokens, Trunk, TrunkConfig
from kinema.nets.language.decoder import DecoderModel
from kinema.nets.language.sizes import TINY, Decoder

Attention = Literal["causal", "prefix"]


@dataclass(frozen=True, kw_only=True)
class LanguageModel(TrunkConfig):
    """The first `layers` layers of a model of `size`; all if None. The policy must be as wide.

    With "prefix" attention each token reads all, but for those of the encoders named in `apart`: each of these begins a
    block that earlier tokens do not read. `frozen` weights never change, and their dropout is off;
    `gradient_checkpointing` trades time for memory in training.
    """

    size: Decoder = TINY
    attention: Attention = "prefix"
    apart: tuple[str, ...] = ()
    layers: int | None = None
    frozen: bool = False
    gradient_checkpointing: bool = False

    def build(self, groups: Sequence[Group], *, width: int) -> LanguageModelTrunk:
        """Return the trunk."""
        if self.attention not in get_args(Attention):
            raise unknown("attention of a language model", self.attention, get_args(Attention))
        if width != self.size.width:
            raise KinemaError(f"language model: its width is {self.size.width}, the policy's {width}; make them equal")
        if not self.size.vocabulary:
            raise KinemaError("language model: its size has vocabulary 0, so it could read no words")
        if self.attention == "causal" and self.apart:
            raise KinemaError(
                "language model: `apart` needs attention 'prefix'; with 'causal' no token reads later ones"
            )
        names = [group.name for group in groups]
        for name in self.apart:
            if name not in names:
                raise KinemaError(
                    f"language model: apart names {name!r}, which is no encoder of the trunk{nearest(name, names)}; "
                    f"encoders: {', '.join(names)}"
                )
        for group in groups:
            if group.placed:
                raise KinemaError(
                    f"language model: encoder {group.name!r} brings positions of its own; here they are rotary"
                )
        return LanguageModelTrunk(self, groups)


class LanguageModelTrunk(Trunk, Extend):
    """Tokens (B, N, D) to as many after the final norm; the readout `action` (B, 1, D) is the last present one.

    A token's position is the number of present ones before it. The context's `kv` is of all layers.
    """

    begins: Tensor

    def __init__(self, config: LanguageModel, groups: Sequence[Group]) -> None:
        super().__init__()
        size = config.size.truncated(config.layers)
        self.vocabulary, self.frozen = size.vocabulary, config.frozen
        self.model = DecoderModel(size, gradient_checkpointing=config.gradient_checkpointing)
        self.lm_head = None if size.tied else nn.Linear(size.width, size.vocabulary, bias=False)
        if self.lm_head is not None:
            nn.init.normal_(self.lm_head.weight, std=0.02)
        self.requires_grad_(not config.frozen).train()
        self.register_buffer("begins", _begins(config, groups), persistent=False)

    def train(self, mode: bool = True) -> LanguageModelTrunk:
        """Return itself in training mode; what is frozen stays out of it."""
        super().train(mode and not self.frozen)
        return self

    def forward(self, tokens: Tokens) -> Context:
        """Return the context for the `tokens`, of which `ids` that are no -1 are read as words."""
        values, mask = tokens.values, tokens.mask
        if tokens.ids is not None:
            words = self.embed(tokens.ids.clamp(min=0)).to(values.dtype)
            values = torch.where(tokens.ids[..., None] >= 0, words, values)
        read = readable(block_mask(self.begins), mask)
        hidden, kv = self.model(values, (mask.cumsum(1) - 1).clamp(min=0), read)
        last = (mask * torch.arange(mask.shape[1], device=mask.device)).argmax(1)
        action = hidden[torch.arange(len(hidden), device=mask.device), last][:, None]
        return Context(tokens=hidden, mask=mask, readout={"action": action}, kv=kv, extend=self)

    def embed(self, ids: Tensor) -> Tensor:
        """Return what the trunk reads for the words `ids` (B, L): (B, L, D)."""
        return self.model.embed(ids)

    def extend(self, values: Tensor, past: KV, mask: Tensor, *, causal: bool) -> tuple[Tensor, KV]:
        """Return the hidden of `values` (B, L, D) at the positions that follow, and the past with them."""
        begins = torch.full((values.shape[1],), causal, device=mask.device)
        read, positions = after(mask, begins)
        hidden: Tensor
        hidden, kv = self.model(values, positions, read, past)
        return hidden, kv

    def logits(self, hidden: Tensor, words: Tensor | None = None) -> Tensor:
        """Return the logits (B, L, V) of the word that follows each of `hidden` (B, L, D), of `words` (V,) or all."""
        weight = self.model.words.weight if self.lm_head is None else self.lm_head.weight
        return F.linear(hidden, weight if words is None else weight[words])


def _begins(config: LanguageModel, groups: Sequence[Group]) -> Tensor:
    """Return which tokens (N,) begin a block: all if causal, else the first of each encoder that stands apart."""
    begins = [
        config.attention == "causal" or (group.name in config.apart and token == 0)
        for group in groups
        for token in range(group.tokens)
    ]
    return torch.tensor(begins, dtype=torch.bool)
