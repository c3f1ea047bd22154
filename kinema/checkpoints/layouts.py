"""How published vision-language models are laid out: what config.json says, and what their weights are called.

A weight's name in the file becomes `vision.<tower>.<name in the tower>`, `projector.<name>`, `language.<name>` or
`lm_head.weight`. PaliGemma (Beyer et al. 2024), SmolVLM and Idefics 3 (as `transformers` saves them), and OpenVLA (Kim
et al. 2024), whose towers are timm's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import (
    Idefics3Config,
    LlamaConfig,
    PaliGemmaConfig,
    PreTrainedConfig,
    SmolVLMConfig,
)

from kinema.checkpoints.settings import reading
from kinema.checkpoints.timm_names import Part, same, timm_parts
from kinema.core.errors import CheckpointError, unknown
from kinema.nets.language.sizes import Decoder
from kinema.nets.towers.projectors import Projector
from kinema.nets.towers.sizes import PRISMATIC_DINOV2, PRISMATIC_SIGLIP, Tower

TIMM = {
    "vit_large_patch14_reg4_dinov2.lvd142m": PRISMATIC_DINOV2,
    "vit_so400m_patch14_siglip_224": PRISMATIC_SIGLIP,
}


@dataclass(frozen=True, kw_only=True)
class Published:
    """What a directory holds; `names` are patterns of weights' names and what they become here."""

    towers: tuple[Tower, ...]
    projector: Projector
    shuffle: int | None
    size: Decoder
    names: tuple[tuple[str, str], ...]
    timm: bool = False

    def parts(self, name: str) -> list[Part] | None:
        """Return what the weight `name` of the file becomes: none where it is never read, None where unknown."""
        for pattern, replacement in self.names:
            renamed, found = re.subn(pattern, replacement, name, count=1)
            if found:
                _, _, rest = renamed.partition(".")
                if self.timm and renamed.startswith("vision."):
                    number, _, inside = rest.partition(".")
                    return timm_parts(self.towers[int(number)], f"vision.{number}", inside)
                return [(renamed, same)]
        return None


_PALIGEMMA = (
    (r"^(?:model\.)?vision_tower\.(?:vision_model\.)?", "vision.0."),
    (r"^(?:model\.)?multi_modal_projector\.", "projector."),
    (r"^(?:language_model\.model|(?:model\.)?language_model)\.(?!lm_head)", "language."),
    (r"^(?:language_model\.)?lm_head\.", "lm_head."),
)
_SMOLVLM = (
    (r"^(?:model\.)?vision_model\.", "vision.0."),
    (r"^(?:model\.)?connector\.modality_projection\.", "projector."),
    (r"^(?:model\.)?text_model\.", "language."),
    (r"^lm_head\.", "lm_head."),
)
_OPENVLA = (
    (r"^vision_backbone\.featurizer\.", "vision.0."),
    (r"^vision_backbone\.fused_featurizer\.", "vision.1."),
    (r"^projector\.", "projector."),
    (r"^language_model\.model\.", "language."),
    (r"^language_model\.lm_head\.", "lm_head."),
)


def read(config: Mapping[str, Any]) -> Published:
    """Return what config.json describes; raises CheckpointError for what is not supported."""
    try:
        with reading("config.json"):
            return _read(config)
    except StrictDataclassError as error:
        raise CheckpointError(f"config.json: {error}") from error


def _read(config: Mapping[str, Any]) -> Published:
    kind = config.get("model_type", "")
    if kind == "paligemma":
        own: Any = PaliGemmaConfig.from_dict(dict(config))
        return Published(
            towers=(_siglip(own.vision_config),), projector="linear", shuffle=None, names=_PALIGEMMA,
            size=_decoder(own.text_config, tied=own.tie_word_embeddings),
        )  # fmt: skip
    if kind in ("smolvlm", "idefics3"):
        own = (SmolVLMConfig if kind == "smolvlm" else Idefics3Config).from_dict(dict(config))
        return Published(
            towers=(_siglip(own.vision_config),), projector="pixel_shuffle", shuffle=own.scale_factor, names=_SMOLVLM,
            size=_decoder(own.text_config, tied=own.tie_word_embeddings),
        )  # fmt: skip
    if kind == "openvla":
        return _openvla(config)
    raise unknown("model_type of config.json", str(kind), ("paligemma", "smolvlm", "idefics3", "openvla"))


def _siglip(config: Any) -> Tower:
    if config.model_type not in ("siglip_vision_model", "smolvlm_vision", "idefics3_vision"):
        raise CheckpointError(f"config.json: vision model {config.model_type!r} is not supported; expected SigLIP")
    if config.layer_norm_eps != 1e-6:
        raise CheckpointError(f"config.json: layer_norm_eps is {config.layer_norm_eps}, expected SigLIP's 1e-06")
    return Tower(
        family="siglip",
        size=(config.image_size, config.image_size),
        patch=config.patch_size,
        width=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        hidden=config.intermediate_size,
        activation=config.hidden_act,
    )


def _decoder(config: PreTrainedConfig, *, tied: bool) -> Decoder:
    said: Any = config
    family, rope = said.model_type, said.rope_parameters
    if family not in ("gemma", "llama", "qwen2"):
        raise CheckpointError(
            f"config.json: language model {family!r} is not supported; expected gemma, llama or qwen2"
        )
    if rope.get("rope_type", "default") != "default":
        raise CheckpointError(f"config.json: rope_type {rope['rope_type']!r} is not supported; expected 'default'")
    return Decoder(
        family=family,
        layers=said.num_hidden_layers,
        width=said.hidden_size,
        hidden=said.intermediate_size,
        heads=said.num_attention_heads,
        kv_heads=said.num_key_value_heads,
        head_width=said.to_dict().get("head_dim") or said.hidden_size // said.num_attention_heads,
        vocabulary=said.vocab_size,
        tied=tied,
        rope_theta=float(rope["rope_theta"]),
        norm_eps=said.rms_norm_eps,
    )


def _openvla(config: Mapping[str, Any]) -> Published:
    ids, text = list(config.get("timm_model_ids", [])), dict(config.get("text_config", {}))
    for name in ids:
        if name not in TIMM:
            raise unknown("timm model of config.json", str(name), TIMM)
    towers = tuple(TIMM[name] for name in ids)
    sizes = [list(tower.size) for tower in towers]
    given = [[size, size] if isinstance(size, int) else size for size in config.get("image_sizes", [])]
    changed = [name for name in config.get("timm_override_act_layers", []) if name is not None]
    if len(towers) != 2 or given != sizes or changed or text.get("model_type") != "llama":
        raise CheckpointError(
            f"config.json: towers {ids} for {given} px, activations {changed or 'as published'}, language model "
            f"{text.get('model_type')!r}; expected two towers, {sizes} px, as published, and 'llama'"
        )
    decoder = LlamaConfig.from_dict(text)
    return Published(
        towers=towers, projector="mlp3", shuffle=None, names=_OPENVLA, timm=True,
        size=_decoder(decoder, tied=bool(decoder.tie_word_embeddings)),
    )  # fmt: skip
