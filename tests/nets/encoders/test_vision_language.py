"""The encoder of vision-language models: what it reads, in which order, what is frozen, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from kinema.core.errors import KinemaError, SpecMismatch
from kinema.core.spec import Camera, ObservationSpec
from kinema.nets.encoders.vision_language import VisionLanguage, VisionLanguageEncoder
from kinema.nets.towers.sizes import PRISMATIC, SIGLIP_SO400M_224, SMOLVLM2_500M, TINY_DINOV2, TINY_SIGLIP
from kinema.nets.towers.tower import TowerModel

NAMES = ("front", "wrist")
SPEC = ObservationSpec(cameras=tuple(Camera(name=name, height=32, width=32) for name in NAMES))
BATCH, STEPS, WIDTH = 3, 2, 24


def built(steps: int = STEPS, **fields: Any) -> VisionLanguageEncoder:
    torch.manual_seed(0)
    return VisionLanguage(cameras=NAMES, **fields).build(SPEC, obs_horizon=steps, width=WIDTH)


def sample(steps: int = STEPS) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    return {
        f"image.{name}": torch.from_numpy(rng.integers(0, 256, (BATCH, steps, 32, 32, 3), np.uint8)) for name in NAMES
    }


def differs(encoder: VisionLanguageEncoder, changed: Mapping[str, torch.Tensor]) -> set[int]:
    """Which tokens of the first row change with the sample."""
    moved = (encoder(changed, None).values - encoder(sample(), None).values)[0].abs().amax(-1)
    return set(torch.nonzero(moved > 1e-6).flatten().tolist())


def test_tokens_are_in_order_of_steps_then_cameras() -> None:
    encoder = built().eval()
    assert encoder.tokens == STEPS * 2 * 16 and encoder.steps == STEPS
    for step in range(STEPS):
        for number, name in enumerate(NAMES):
            changed = sample()
            changed[f"image.{name}"][:, step] = 0
            first = (step * 2 + number) * 16
            assert differs(encoder, changed) == set(range(first, first + 16))


def test_towers_are_side_by_side_on_channels_and_in_order() -> None:
    """OpenVLA: DINOv2's channels first, patch by patch."""
    encoder = built(towers=(TINY_DINOV2, TINY_SIGLIP), projector="mlp3").eval()
    images = sample()["image.front"][:, 0]
    raster = encoder.patches(images)
    assert raster.shape == (BATCH, 4, 4, 64)
    for number, tower in enumerate(encoder.towers):
        assert torch.equal(raster.flatten(1, 2)[..., number * 32 : number * 32 + 32], tower(images))
    assert encoder.projector.fc1.weight.shape == (4 * 64, 64)
    assert [t.family for t in PRISMATIC] == ["dinov2", "siglip"]


def test_pooling_is_the_mean_of_each_part() -> None:
    whole, pooled = built().eval(), built(grid=2).eval()
    images = sample()["image.front"][:, 0]
    raster = whole.patches(images)
    assert pooled.tokens == STEPS * 2 * 4
    assert torch.allclose(pooled.patches(images)[:, 1, 0], raster[:, 2:, :2].mean((1, 2)), atol=1e-6)
    assert built(grid=2, projector="pixel_shuffle", shuffle=2).tokens == STEPS * 2


def test_it_says_how_often_each_of_its_cameras_is_hidden() -> None:
    encoder = built(dropout=0.25)
    assert (encoder.dropout, encoder.cameras) == (0.25, 2)
    assert torch.equal(encoder(sample(), None).values, encoder.eval()(sample(), None).values)


@pytest.mark.parametrize(("frozen", "trained"), [("towers", {"projector"}), ("all", set())])
def test_frozen_weights_have_no_gradient_and_stay_as_when_acting(frozen: str, trained: set[str]) -> None:
    encoder = built(frozen=frozen, towers=(TINY_DINOV2, TINY_SIGLIP), projector="mlp3")
    encoder.train()
    assert not any(module.training for module in encoder.towers.modules())
    assert encoder.projector.training == bool(trained) and encoder.training
    values = encoder(sample(), None).values
    assert values.requires_grad == bool(trained)
    if trained:
        values.square().sum().backward()
    assert {name.split(".")[0] for name, p in encoder.named_parameters() if p.grad is not None} == trained
    assert {name.split(".")[0] for name, p in encoder.named_parameters() if p.requires_grad} == trained
    torch.manual_seed(0)
    assert torch.equal(values, built(towers=(TINY_DINOV2, TINY_SIGLIP), projector="mlp3")(sample(), None).values)


def test_published_sizes() -> None:
    """Against the models of `transformers` of the published configurations."""
    so400m = {
        "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "image_size": 224,
        "num_hidden_layers": 27, "num_attention_heads": 16, "patch_size": 14, "vision_use_head": False,
    }  # fmt: skip
    with torch.device("meta"):
        paligemma = transformers.PaliGemmaModel(
            transformers.PaliGemmaConfig(
                vision_config=so400m, text_config={"model_type": "gemma", "num_hidden_layers": 1}
            )
        )
        smolvlm = transformers.SmolVLMModel(
            transformers.SmolVLMConfig(
                scale_factor=4,
                vision_config={"hidden_size": 768, "num_attention_heads": 12, "image_size": 512, "patch_size": 16},
                text_config={"model_type": "llama", "hidden_size": 960, "num_attention_heads": 15,
                             "num_hidden_layers": 1, "vocab_size": 8},
            )
        )  # fmt: skip
        own = {
            "paligemma": size(2048, (SIGLIP_SO400M_224,), "linear"),
            "smolvlm": size(960, (SMOLVLM2_500M,), "pixel_shuffle", 4),
            "openvla": size(4096, PRISMATIC, "mlp3"),
        }
    assert own["paligemma"] == (256, count(paligemma.vision_tower) + count(paligemma.multi_modal_projector))
    assert own["smolvlm"] == (64, count(smolvlm.vision_model) + count(smolvlm.connector))
    projector = 2176 * 8704 + 8704 + 8704 * 4096 + 4096 + 4096 * 4096 + 4096
    with torch.device("meta"):
        towers = sum(count(TowerModel(tower)) for tower in PRISMATIC)
    assert own["openvla"] == (256, towers + projector)


def size(width: int, towers: Any, projector: Any, shuffle: int | None = None) -> tuple[int, int]:
    side = towers[0].size[0]
    spec = ObservationSpec(cameras=(Camera(name="front", height=side, width=side),))
    config = VisionLanguage(cameras=("front",), towers=towers, projector=projector, shuffle=shuffle)
    return config.tokens, count(config.build(spec, obs_horizon=1, width=width))


def count(model: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def test_misfits_are_named() -> None:
    small = ObservationSpec(cameras=(SPEC.cameras[0], Camera(name="wrist", height=24, width=32)))
    with pytest.raises(
        SpecMismatch, match=r"camera 'wrist' is 24x32 px, its towers take 32x32\nfix: Resize\(height=32, width=32\) as"
    ):
        VisionLanguage(cameras=NAMES).build(small, obs_horizon=1, width=8)
    coarse = replace(TINY_SIGLIP, patch=16)
    for fields, said in (
        ({"towers": (TINY_DINOV2, coarse)}, "same patches of the same image, got dinov2 4x4 of 32x32 px, siglip 2x2"),
        ({"towers": ()}, "0 towers"),
        ({"dropout": 1.0}, r"dropout 1\.0; expected .* a chance in \[0, 1\)"),
        ({"projector": "pixel_shuffle"}, "'pixel_shuffle' with shuffle None; expected a factor"),
        ({"shuffle": 2}, "'linear' with shuffle 2; expected .* None for any other"),
        ({"projector": "pixel_shuffle", "shuffle": 3}, "shuffle 3 does not divide 4x4 patches"),
        ({"grid": 5}, "grid 5, expected 1 to 4"),
        ({"projector": "mlp"}, "unknown projector of vision-language 'mlp'; did you mean 'mlp3'"),
        ({"frozen": "tower"}, "unknown frozen of vision-language 'tower'; did you mean 'towers'"),
    ):
        with pytest.raises(KinemaError, match=said):
            VisionLanguage(cameras=NAMES, **fields)
