"""The action expert of SmolVLA: joint attention in every second layer, cross-attention to the trunk in the others.

Shukor et al. 2025 (arXiv 2506.01844), section 3. Actions read those before them (causal); the state is of the trunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from kinema.core.errors import KinemaError
from kinema.nets.attention import after, join_heads
from kinema.nets.base import Context, KeyValue, OpensLayers
from kinema.nets.denoisers.base import Denoiser, DenoiserConfig
from kinema.nets.experts import ActionTokens, check_wordless, keys_and_values
from kinema.nets.language.decoder import DecoderModel, Rotary, run
from kinema.nets.language.sizes import TINY, Decoder


def beside(trunk: Decoder, *, share: float = 0.75) -> Decoder:
    """Return the size of an expert beside `trunk`: `share` of its width, the same layers and heads, no words.

    Its hidden units are 8/3 of its width, rounded up to a multiple of 256.
    """
    width = int(trunk.width * share)
    return replace(trunk, width=width, hidden=-(4 * (2 * width // 3) // -256) * 256, vocabulary=0)


_TINY = beside(TINY)


@dataclass(frozen=True, kw_only=True)
class InterleavedExpert(DenoiserConfig):
    """Layers of `size`; those whose number is a multiple of `joint_every` attend jointly, the others cross."""

    size: Decoder = _TINY
    joint_every: int = 2

    def build(self, *, action_width: int, pred_horizon: int, width: int) -> InterleavedExpertDenoiser:
        """Return the module."""
        check_wordless(self.size)
        if self.joint_every < 1:
            raise KinemaError(f"interleaved expert: joint_every {self.joint_every} must be at least 1")
        return InterleavedExpertDenoiser(self, action_width=action_width)


class InterleavedExpertDenoiser(Denoiser, OpensLayers):
    """Its tokens are the noisy actions; it has no private ones."""

    reads_kv = True

    def __init__(self, config: InterleavedExpert, *, action_width: int) -> None:
        super().__init__()
        self.size, self.joint_every = config.size, config.joint_every
        self.actions = ActionTokens(action_width, self.size.width)
        self.model = DecoderModel(self.size)
        kept = self.size.kv_heads * self.size.head_width
        for layer in self.opened():
            for name in ("k_proj", "v_proj"):
                project = nn.Linear(kept, kept, bias=False)
                nn.init.normal_(project.weight, std=0.02)
                setattr(layer.self_attn, name, project)

    def opened(self) -> Sequence[Any]:
        """Return the layers that cross."""
        return [layer for index, layer in enumerate(self.model.layers) if index % self.joint_every]

    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        """Return the prediction (B, H, A); step k of it depends on the steps of `x` up to k only."""
        hidden = self.actions(x, t)
        mask, positions = after(context.mask, torch.ones(x.shape[1], dtype=torch.bool, device=x.device))
        rotary = self.model.rotary(positions, hidden.dtype)
        # Where they read the trunk alone, actions count from 0.
        own = self.model.rotary(positions - positions[:, :1], hidden.dtype)
        for index, (layer, kv) in enumerate(zip(self.model.layers, keys_and_values(context, self.size), strict=True)):
            if index % self.joint_every:
                hidden = _crossed(layer, hidden, kv, context.mask[:, None, None], own)
            else:
                hidden, _ = run(layer, hidden, mask[:, None], rotary, kv)
        return self.actions.leave(self.model.norm(hidden)).float()


def _crossed(layer: Any, hidden: Tensor, kv: KeyValue, present: Tensor, rotary: Rotary) -> Tensor:
    """Return `hidden` (B, H, D) after a layer that reads projections of the trunk's keys and values alone."""
    attention = layer.self_attn
    query = _heads(attention.q_proj(layer.input_layernorm(hidden)), kv[0])
    query, _ = apply_rotary_pos_emb(query, query, *rotary)
    keys, values = (
        _heads(project(join_heads(given).to(hidden.dtype)), given).to(query.dtype)
        for project, given in zip((attention.k_proj, attention.v_proj), kv, strict=True)
    )
    read = scaled_dot_product_attention(query, keys, values, attn_mask=present, enable_gqa=True)
    hidden = hidden + attention.o_proj(join_heads(read).to(hidden.dtype))
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden))


def _heads(projected: Tensor, like: Tensor) -> Tensor:
    """Return (B, heads, N, head width) for (B, N, heads x head width), heads as wide as those of `like`."""
    return projected.unflatten(-1, (-1, like.shape[-1])).transpose(1, 2)
