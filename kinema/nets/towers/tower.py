"""One image transformer of `transformers`, from uint8 images to its patches."""

from __future__ import annotations

from typing import Any

import transformers
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from kinema.core.errors import UnavailableError
from kinema.nets.images import scaled
from kinema.nets.towers.sizes import Tower


class TowerModel(nn.Module):
    """uint8 images (N, Hi, Wi, 3) to patches (N, rows * columns, width), class and register tokens left out."""

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self.tower = tower
        self.model = _dinov2(tower) if tower.family == "dinov2" else _contrastive(tower)

    def forward(self, images: Tensor) -> Tensor:
        """Return the patches, row by row."""
        # DINOv2 interpolates by itself wherever the number of patches differs.
        interpolate = (
            {} if self.tower.family == "dinov2" else {"interpolate_pos_encoding": self.tower.native is not None}
        )
        found: Tensor = self.model(pixel_values=scaled(images, *self.tower.scaling), **interpolate).last_hidden_state
        rows, columns = self.tower.patches
        return found[:, -rows * columns :]


def _contrastive(tower: Tower) -> Any:
    """Return SigLIP without its pooling head, or CLIP, whose last norm only its pooling reads."""
    said = {
        "image_size": tower.native or tower.size[0],
        "patch_size": tower.patch,
        "hidden_size": tower.width,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "intermediate_size": tower.hidden,
        "hidden_act": tower.activation,
    }
    if tower.family == "clip":
        model: Any = CLIPVisionModel(CLIPVisionConfig(**said, layer_norm_eps=1e-5))
    else:
        model = SiglipVisionModel(SiglipVisionConfig(**said, layer_norm_eps=1e-6, vision_use_head=False))
    return _cut(model, "post_layernorm", tower)


def _dinov2(tower: Tower) -> Any:
    """Return DINOv2 without the token that stands for hidden patches in its own training."""
    said = {
        "image_size": tower.native or tower.size[0],
        "patch_size": tower.patch,
        "hidden_size": tower.width,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "mlp_ratio": tower.hidden // tower.width,
        "hidden_act": tower.activation,
        "layer_norm_eps": 1e-6,
    }
    if tower.registers:
        config = Dinov2WithRegistersConfig(**said, num_register_tokens=tower.registers)
        model: Any = Dinov2WithRegistersModel(config)
    else:
        model = Dinov2Model(Dinov2Config(**said))
    model.embeddings.mask_token = None
    return _cut(model, "layernorm", tower)


def _cut(model: nn.Module, norm: str, tower: Tower) -> nn.Module:
    """Return the model, without its last norm where the tower has none."""
    if norm not in dict(model.named_children()):
        # Older versions wrap the model once more; an attribute set on the wrapper would leave the norm in.
        raise UnavailableError(
            f"transformers {transformers.__version__} lays {tower.family} out in a way that is not known here\n"
            "fix: pip install -U 'kinema[vlm]'"
        )
    if not tower.norm:
        setattr(model, norm, nn.Identity())
    return model
