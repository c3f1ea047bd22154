"""Decoder layers of `transformers`, run one by one: any attention mask, keys and values in and out, nothing kept.

Modules are called as in the published checkpoints of these families.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.models.gemma.configuration_gemma import GemmaConfig
from transformers.models.gemma.modeling_gemma import GemmaDecoderLayer, GemmaRMSNorm
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm
from transformers.models.qwen2.configuration_qwen2 import Qwen2Config
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer, Qwen2RMSNorm

from kinema.core.errors import KinemaError
from kinema.nets.base import KV, KeyValue
from kinema.nets.language.sizes import Decoder

_FAMILIES = {
    "gemma": (GemmaConfig, GemmaDecoderLayer, GemmaRMSNorm),
    "llama": (LlamaConfig, LlamaDecoderLayer, LlamaRMSNorm),
    "qwen2": (Qwen2Config, Qwen2DecoderLayer, Qwen2RMSNorm),
}
_STD = 0.02  # of initial weights, `initializer_range` of the three families

Rotary = tuple[Tensor, Tensor]
"""Cosine and sine (B, L, head width) of the rotary angles."""


class DecoderModel(nn.Module):
    """Values (B, L, D) to hidden (B, L, D) after the final norm, and every layer's keys and values.

    With `gradient_checkpointing` the backward pass computes each layer again, instead of keeping what is inside it.
    """

    embed_tokens: nn.Embedding | None

    def __init__(self, size: Decoder, *, gradient_checkpointing: bool = False) -> None:
        super().__init__()
        self.size, self.gradient_checkpointing = size, gradient_checkpointing
        make_config, layer, norm = _FAMILIES[size.family]
        config = make_config(
            hidden_size=size.width,
            intermediate_size=size.hidden,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            num_key_value_heads=size.kv_heads,
            head_dim=size.head_width,
            rms_norm_eps=size.norm_eps,
            attn_implementation="sdpa",
        )
        self.embed_tokens = nn.Embedding(size.vocabulary, size.width) if size.vocabulary else None
        self.layers = nn.ModuleList([layer(config, index) for index in range(size.layers)])
        self.norm = norm(size.width, eps=size.norm_eps)
        self.apply(_initialise)

    @property
    def words(self) -> nn.Embedding:
        """The embedding of the vocabulary; raises KinemaError where there is none."""
        if self.embed_tokens is None:
            raise KinemaError("this decoder has no words: its size has vocabulary 0")
        return self.embed_tokens

    def embed(self, ids: Tensor) -> Tensor:
        """Return the embeddings (B, L, D) of the words `ids` (B, L) int64, scaled as the family does."""
        embedded: Tensor = self.words(ids)
        return embedded * self.size.width**0.5 if self.size.family == "gemma" else embedded

    def forward(self, values: Tensor, positions: Tensor, mask: Tensor, past: KV | None = None) -> tuple[Tensor, KV]:
        """Return the hidden of `values` at `positions` (B, L), and keys and values of the past and of them.

        `mask` (B, L, N + L) says which of the N past tokens and of these each reads. Every row must read one, if only
        itself.
        """
        rotary, mask, kept = self.rotary(positions, values.dtype), mask[:, None], []
        for index, layer in enumerate(self.layers):
            before = None if past is None else past[index]
            if self.gradient_checkpointing and torch.is_grad_enabled():
                values, pair = checkpoint(run, layer, values, mask, rotary, before, use_reentrant=False)
            else:
                values, pair = run(layer, values, mask, rotary, before)
            kept.append(pair)
        return self.norm(values), tuple(kept)

    def rotary(self, positions: Tensor, dtype: torch.dtype) -> Rotary:
        """Return cosine and sine (B, L, head width) of the rotary angles (Su et al. 2021, eq. 34), in halves."""
        even = torch.arange(0, self.size.head_width, 2, device=positions.device, dtype=torch.float32)
        angles = positions[..., None].float() / self.size.rope_theta ** (even / self.size.head_width)
        angles = torch.cat([angles, angles], dim=-1)
        return angles.cos().to(dtype), angles.sin().to(dtype)


class _Kept:
    """What a layer asks of a cache, for one call: it joins the keys and values to those of the past."""

    def __init__(self, past: KeyValue | None) -> None:
        self.pair = past

    def update(self, key: Tensor, value: Tensor, *_: object, **__: object) -> KeyValue:
        if self.pair is not None:
            key, value = torch.cat([self.pair[0], key], dim=2), torch.cat([self.pair[1], value], dim=2)
        self.pair = key, value
        return self.pair


def run(
    layer: nn.Module, values: Tensor, mask: Tensor, rotary: Rotary, past: KeyValue | None
) -> tuple[Tensor, KeyValue | None]:
    """Return `values` (B, L, D) after one layer, and its keys and values, those of the `past` first."""
    kept = _Kept(past)
    values = layer(values, attention_mask=mask, past_key_values=kept, position_embeddings=rotary)
    return values, kept.pair


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
