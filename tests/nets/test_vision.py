"""The frozen image transformer against `transformers` itself, and what is refused of a directory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from kinema.core.errors import CheckpointError, SpecMismatch
from kinema.core.spec import Camera, ObservationSpec
from kinema.nets.encoders.frozen_vision import FrozenVision
from kinema.nets.vision import VisionModel, vision_model
from kinema.train.optim import decayed

SPEC = ObservationSpec(cameras=(Camera(name="front", height=32, width=40),))


@pytest.fixture(scope="module")
def folder(tiny_vision: Callable[..., Path]) -> Path:
    return tiny_vision(32, 40)


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, 32, 40, 3), np.uint8))


def test_patches_are_those_of_transformers(folder: Path) -> None:
    """Scaled by hand; the class token left out; with a patch a token the raster is the patches in order."""
    from transformers import ViTModel

    model, images = ViTModel.from_pretrained(folder), pictures(2)
    mean, deviation = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.5, 0.25, 0.2])
    pixels = ((images / 255 - mean) / deviation).permute(0, 3, 1, 2)
    with torch.no_grad():
        hidden = model(pixel_values=pixels).last_hidden_state[:, 1:]
    own = vision_model(str(folder), None)
    assert own.size == (32, 40) and own.patches == (4, 5) and own.width == 24
    raster = hidden.view(2, 4, 5, 24)
    assert torch.allclose(own.encode(images, 1)[:, 0], hidden.mean(1), atol=1e-5)
    quarter = raster[:, 2:, 2:].mean((1, 2))  # of 4x5 patches the second half: rows 2-3, columns 2-4
    assert torch.allclose(own.encode(images, 2)[:, 3], quarter, atol=1e-5)


def test_an_image_never_depends_on_its_neighbours_or_on_how_training_computes(folder: Path) -> None:
    model, images = vision_model(str(folder), None), pictures(5)
    together = model.encode(images, 4)
    for number, image in enumerate(images):
        assert torch.equal(model.encode(image[None], 4)[0], together[number])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model.encode(images, 4), together)
    assert together.dtype == torch.float32 and not together.requires_grad


def test_weights_are_pinned_shared_and_not_stored(folder: Path) -> None:
    config = FrozenVision(camera="front", model=str(folder)).pinned()
    assert config.frozen() is config.frozen()
    encoder = config.build(SPEC, obs_horizon=2, width=8)
    assert encoder.tokens == 2 * 16 and not any(24 * 24 in p.shape for p in encoder.parameters())
    assert set(encoder.state_dict()) == {
        "position",
        "project.0.weight",
        "project.0.bias",
        "project.1.weight",
        "project.1.bias",
    }
    assert not decayed(encoder)["position"]
    with pytest.raises(CheckpointError, match=r"sha256 of weights, .* is [0-9a-f]{64}, expected 00ff"):
        VisionModel(folder, "00ff")


def test_the_digest_is_of_all_that_decides_what_an_image_becomes(folder: Path, tmp_path: Path) -> None:
    def digest(name: str, **changes: Any) -> str:
        shutil.copytree(folder, tmp_path / "copy", dirs_exist_ok=True)
        path = tmp_path / "copy" / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
        return VisionModel(tmp_path / "copy", None).sha256

    whole, scaling = VisionModel(folder, None).sha256, "preprocessor_config.json"
    assert digest("config.json", layer_norm_eps=1e-3) != whole
    assert digest(scaling, image_mean=[0.5, 0.5, 0.5]) != whole != digest(scaling, image_std=[0.5, 0.5, 0.5])
    assert digest(scaling, do_resize=False, do_normalize=True, rescale_factor=0.00392156862745098) == whole
    for changes, said in (
        ({"do_normalize": False}, "do_normalize is false"),
        ({"rescale_factor": 1 / 127.5}, r"expected pixels divided by 255 \(do_rescale, rescale_factor 1/255\)"),
        ({"do_rescale": False}, "expected pixels divided by 255"),
    ):
        with pytest.raises(CheckpointError, match=said):
            digest(scaling, **changes)


def test_features_stand_for_the_image(folder: Path) -> None:
    config = FrozenVision(camera="front", model=str(folder), grid=2)
    encoder = config.build(SPEC, obs_horizon=3, width=8)
    images = pictures(6).view(2, 3, 32, 40, 3)
    live = encoder({"image.front": images}, None).values
    kept = torch.from_numpy(config.features(images.flatten(0, 1).numpy())).view(2, 3, 4, 24)
    assert live.shape == (2, 12, 8)
    assert torch.equal(encoder({config.features_key: kept}, None).values, live)
    other = FrozenVision(camera="front", model=str(folder), grid=3)
    assert other.features_key != config.features_key, "features of another function are not mistaken for these"


def test_misfits_are_named(folder: Path, tmp_path: Path) -> None:
    config = FrozenVision(camera="front", model=str(folder))
    small = ObservationSpec(cameras=(Camera(name="front", height=96, width=96),))
    with pytest.raises(SpecMismatch, match=r"is 96x96 px, .* takes 32x40\nfix: --data\.resize 32 40"):
        config.build(small, obs_horizon=1, width=8)
    with pytest.raises(SpecMismatch, match="grid 5, expected 1 to 4"):
        FrozenVision(camera="front", model=str(folder), grid=5).build(SPEC, obs_horizon=1, width=8)
    with pytest.raises(CheckpointError, match=r"model\.safetensors does not exist; only safetensors load"):
        VisionModel(tmp_path, None)


def test_incomplete_directories_are_refused(folder: Path, tmp_path: Path) -> None:
    """`transformers` would make up what is missing."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    weights = load_file(copy / "model.safetensors")
    lost = next(name for name in weights if "layer" in name)
    save_file({name: value for name, value in weights.items() if name != lost}, copy / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lacks 1 weights of config\.json, such as \['.*layer"):
        VisionModel(copy, None).encode(pictures(1), 1)
    (copy / "preprocessor_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json does not say 'image_mean'"):
        VisionModel(copy, None)
    (copy / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"cannot read .*preprocessor_config\.json"):
        VisionModel(copy, None)
    (copy / "config.json").write_text(json.dumps({"vision_config": {}}))
    with pytest.raises(CheckpointError, match="does not say 'image_size': expected a single image transformer"):
        VisionModel(copy, None)
