"""timm's names of an image transformer's weights, as OpenVLA stores them, in the words of `transformers`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from kinema.nets.towers.sizes import Tower

Part = tuple[str, Callable[[Tensor], Tensor]]
"""The name of a weight here, and what makes it of the published one."""


def same(weight: Tensor) -> Tensor:
    """Return the weight as it is."""
    return weight


def timm_parts(tower: Tower, prefix: str, name: str) -> list[Part] | None:
    """Return what a weight of timm's image transformer is in `transformers`' tower of the same family.

    Prismatic reads the layer before the last: the last, the norm and the pooling after it are published and never read.
    """
    block = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
    if block is None:
        rename = _DINOV2_STEM if tower.family == "dinov2" else _SIGLIP_STEM
        if re.match(r"norm\.|attn_pool\.", name):
            return []
        return [(f"{prefix}.{rename[name][0]}", rename[name][1])] if name in rename else None
    number, inside = int(block[1]), block[2]
    stem = "encoder.layer" if tower.family == "dinov2" else "encoder.layers"
    parts = _block(tower, inside)
    if parts is None or number > tower.layers:
        return None
    return [] if number == tower.layers else [(f"{prefix}.{stem}.{number}.{own}", make) for own, make in parts]


def _block(tower: Tower, name: str) -> list[Part] | None:
    dinov2 = tower.family == "dinov2"
    attention = "attention" if dinov2 else "self_attn"
    module, _, kind = name.rpartition(".")
    if module == "attn.qkv":
        return [(f"{attention}.{part}_proj.{kind}", _third(number)) for number, part in enumerate("qkv")]
    if dinov2 and re.fullmatch(r"ls[12]\.(scale_factor|gamma)", name):
        return [(f"layer_scale{name[2]}.lambda1", same)]
    renamed = {
        "attn.proj": f"{attention}.{'o' if dinov2 else 'out'}_proj",
        "norm1": "norm1" if dinov2 else "layer_norm1",
        "norm2": "norm2" if dinov2 else "layer_norm2",
        "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
    }
    return [(f"{renamed[module]}.{kind}", same)] if module in renamed else None


def _third(number: int) -> Callable[[Tensor], Tensor]:
    return lambda weight: weight.chunk(3)[number]


def _no_batch(weight: Tensor) -> Tensor:
    return weight.squeeze(0)


def _after_class(weight: Tensor) -> Tensor:
    """Return positions with that of the class token, which timm's has added to the token itself."""
    return torch.nn.functional.pad(weight, (0, 0, 1, 0))


_SIGLIP_STEM: Mapping[str, Part] = {
    "patch_embed.proj.weight": ("embeddings.patch_embedding.weight", same),
    "patch_embed.proj.bias": ("embeddings.patch_embedding.bias", same),
    "pos_embed": ("embeddings.position_embedding.weight", _no_batch),
}
_DINOV2_STEM: Mapping[str, Part] = {
    "patch_embed.proj.weight": ("embeddings.patch_embeddings.projection.weight", same),
    "patch_embed.proj.bias": ("embeddings.patch_embeddings.projection.bias", same),
    "pos_embed": ("embeddings.position_embeddings", _after_class),
    "cls_token": ("embeddings.cls_token", same),
    "reg_token": ("embeddings.register_tokens", same),
}
