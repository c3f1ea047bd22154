"""Towers against the models of `transformers` themselves, with the same weights, and their published sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from transformers import image_utils

from kinema.core.errors import KinemaError
from kinema.nets.towers.sizes import (
    CLIP_LARGE_336,
    DINOV2_LARGE_224,
    PRISMATIC_DINOV2,
    PRISMATIC_SIGLIP,
    SIGLIP_SO400M_224,
    SMOLVLM2_500M,
    TINY_DINOV2,
    TINY_SIGLIP,
    Tower,
)
from kinema.nets.towers.tower import TowerModel

TINY_CLIP = replace(TINY_SIGLIP, family="clip", activation="quick_gelu", norm=False)
NATIVE = {
    "siglip": TINY_SIGLIP,
    "clip": TINY_CLIP,
    "dinov2": replace(TINY_DINOV2, registers=0),
    "registers": TINY_DINOV2,
}
SCALING = {
    "siglip": (image_utils.IMAGENET_STANDARD_MEAN, image_utils.IMAGENET_STANDARD_STD),
    "clip": (image_utils.OPENAI_CLIP_MEAN, image_utils.OPENAI_CLIP_STD),
    "dinov2": (image_utils.IMAGENET_DEFAULT_MEAN, image_utils.IMAGENET_DEFAULT_STD),
}
CONTRASTIVE = {"image_size": 32, "patch_size": 8, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
DINOV2 = {"image_size": 32, "patch_size": 8, "hidden_size": 32, "num_attention_heads": 2, "mlp_ratio": 2}


def oracle(name: str, layers: int = 2) -> nn.Module:
    """The whole model of `transformers`, with attention written out, and weights that all matter."""
    kind: Any = {
        "siglip": lambda: transformers.SiglipVisionModel(
            transformers.SiglipVisionConfig(**CONTRASTIVE, num_hidden_layers=layers, attn_implementation="eager")
        ),
        "clip": lambda: transformers.CLIPVisionModel(
            transformers.CLIPVisionConfig(**CONTRASTIVE, num_hidden_layers=layers, attn_implementation="eager")
        ),
        "dinov2": lambda: transformers.Dinov2Model(
            transformers.Dinov2Config(**DINOV2, num_hidden_layers=layers, attn_implementation="eager")
        ),
        "registers": lambda: transformers.Dinov2WithRegistersModel(
            transformers.Dinov2WithRegistersConfig(
                **DINOV2, num_hidden_layers=layers, num_register_tokens=2, attn_implementation="eager"
            )
        ),
        "smolvlm": lambda: transformers.models.smolvlm.modeling_smolvlm.SmolVLMVisionTransformer(
            transformers.SmolVLMVisionConfig(**CONTRASTIVE, num_hidden_layers=layers, attn_implementation="eager")
        ),
    }
    torch.manual_seed(0)
    model: nn.Module = kind[name]()
    for weight in model.parameters():
        weight.data += torch.randn_like(weight) * 0.1
    return model.eval()


def tower_like(tower: Tower, model: nn.Module) -> TowerModel:
    own = TowerModel(tower).eval()
    given = model.state_dict()
    own.model.load_state_dict({name: given[name] for name in own.model.state_dict()})
    return own


def pictures(height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, height, width, 3), np.uint8))


def scaled(images: torch.Tensor, family: str) -> torch.Tensor:
    mean, deviation = (torch.tensor(value) for value in SCALING[family])
    return ((images / 255 - mean) / deviation).permute(0, 3, 1, 2)


@pytest.mark.parametrize("name", NATIVE)
def test_patches_are_those_of_transformers(name: str) -> None:
    tower, model = NATIVE[name], oracle(name)
    with torch.no_grad():
        expected = model(scaled(pictures(), tower.family)).last_hidden_state[:, -16:]
        found = tower_like(tower, model)(pictures())
    assert found.shape == (3, 16, 32)
    assert (found - expected).abs().max() <= 1e-5 < expected.std()


@pytest.mark.parametrize("name", NATIVE)
def test_positions_are_interpolated_to_another_size(name: str) -> None:
    tower, model = replace(NATIVE[name], size=(48, 40), native=32), oracle(name)
    also = {} if tower.family == "dinov2" else {"interpolate_pos_encoding": True}
    with torch.no_grad():
        expected = model(scaled(pictures(48, 40), tower.family), **also).last_hidden_state[:, -30:]
        found = tower_like(tower, model)(pictures(48, 40))
    assert tower.patches == (6, 5) and (found - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("name", NATIVE)
def test_the_layer_before_the_last_is_a_tower_with_one_fewer_and_no_norm(name: str) -> None:
    tower, model = replace(NATIVE[name], norm=False), oracle(name, layers=3)
    with torch.no_grad():
        hidden = model(scaled(pictures(), tower.family), output_hidden_states=True).hidden_states
        found = tower_like(tower, model)(pictures())
    assert len(hidden) == 4 and (found - hidden[-2][:, -16:]).abs().max() <= 1e-5


def test_smolvlms_vision_is_siglip_at_its_native_size() -> None:
    model = oracle("smolvlm")
    with torch.no_grad():
        expected = model(scaled(pictures(), "siglip")).last_hidden_state
        found = tower_like(TINY_SIGLIP, model)(pictures())
    assert (found - expected).abs().max() <= 1e-5
    # The positions that SmolVLM looks up for whole images of the published size are 0, 1, 2, ...
    per_side = SMOLVLM2_500M.patches[0]
    with torch.device("meta"):
        embeddings = type(model.embeddings)(transformers.SmolVLMVisionConfig(image_size=512, patch_size=16))
    looked_up: list[torch.Tensor] = []
    embeddings.position_embedding = _Remember(looked_up)
    embeddings.patch_embedding = nn.AvgPool2d(16)
    embeddings(torch.zeros(1, 3, 512, 512), torch.ones(1, per_side, per_side, dtype=torch.bool))
    assert looked_up[0].flatten().tolist() == list(range(per_side**2))


class _Remember(nn.Module):
    def __init__(self, seen: list[torch.Tensor]) -> None:
        super().__init__()
        self.seen = seen

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        self.seen.append(ids)
        return torch.zeros(*ids.shape, 3)


def count(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def test_published_sizes() -> None:
    """Against models of `transformers` of the published configurations, less what no patch depends on."""
    large = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14}
    with torch.device("meta"):
        siglip = transformers.SiglipVisionModel(
            transformers.SiglipVisionConfig(
                hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16, image_size=224,
                patch_size=14,
            )
        )  # fmt: skip
        dinov2 = transformers.Dinov2Model(transformers.Dinov2Config(**large, image_size=518))
        registers = transformers.Dinov2WithRegistersModel(
            transformers.Dinov2WithRegistersConfig(**large, image_size=224, num_register_tokens=4)
        )
        clip = transformers.CLIPVisionModel(
            transformers.CLIPVisionConfig(**large, image_size=336, intermediate_size=4096)
        )
        own = {
            name: count(TowerModel(tower))
            for name, tower in (
                ("siglip", SIGLIP_SO400M_224),
                ("dinov2", DINOV2_LARGE_224),
                ("clip", CLIP_LARGE_336),
                ("prismatic dinov2", PRISMATIC_DINOV2),
                ("prismatic siglip", PRISMATIC_SIGLIP),
                ("smolvlm", SMOLVLM2_500M),
            )
        }
    assert own["siglip"] == count(siglip) - count(siglip.head)
    assert own["dinov2"] == count(dinov2) - 1024  # the token for hidden patches
    assert count(dinov2) == 304_368_640  # facebook/dinov2-large
    assert own["clip"] == count(clip) - count(clip.encoder.layers[-1]) - count(clip.post_layernorm)
    cut = count(registers.encoder.layer[-1]) + count(registers.layernorm) + 1024
    assert own["prismatic dinov2"] == count(registers) - cut
    cut = count(siglip.encoder.layers[-1]) + count(siglip.post_layernorm) + count(siglip.head)
    assert own["prismatic siglip"] == count(siglip) - cut
    assert own["smolvlm"] == 86_433_024  # 768 * (3 * 256 + 1) + 1024 * 768 + 12 * 7_087_872 + 2 * 768


def test_every_weight_matters() -> None:
    for tower in NATIVE.values():
        torch.manual_seed(0)
        model = TowerModel(tower)
        (model(pictures()) * torch.randn(3, 16, 32)).sum().backward()
        assert not [n for n, p in model.named_parameters() if p.grad is None], tower.family


def test_pixels_are_scaled_in_float32_whatever_the_weights_are() -> None:
    seen: list[torch.Tensor] = []
    model = TowerModel(TINY_DINOV2).bfloat16()
    model.model.register_forward_pre_hook(lambda _, __, given: seen.append(given["pixel_values"]), with_kwargs=True)
    assert model(pictures()).dtype == torch.bfloat16
    assert torch.allclose(seen[0], scaled(pictures(), "dinov2"), atol=1e-6)


def test_misfits_are_named() -> None:
    for changes, said in (
        ({"registers": 2}, "siglip has no registers, got 2"),
        ({"family": "siglip2"}, "unknown family of a tower 'siglip2'; did you mean 'siglip'"),
        ({"activation": "gelu_tanh"}, "unknown activation of a tower 'gelu_tanh'; did you mean 'gelu_pytorch_tanh'"),
        ({"heads": 3}, "width 32 for 3 heads"),
        ({"patch": 64}, "32x32 px in patches of 64"),
        ({"size": (32, 40)}, r"square images, size is 32x40\nfix: native=PX"),
        ({"family": "clip"}, "clip's last norm is of its class token alone; expected norm=False"),
        ({"family": "dinov2", "hidden": 72}, "hidden 72 must be a multiple of its width 32"),
    ):
        with pytest.raises(KinemaError, match=said):
            replace(TINY_SIGLIP, **changes)
