"""Projectors against those of `transformers`, and the pixel shuffle by hand."""

from __future__ import annotations

import pytest
import torch
import transformers
from transformers.models.paligemma.modeling_paligemma import PaliGemmaMultiModalProjector
from transformers.models.smolvlm.modeling_smolvlm import SmolVLMConnector

from kinema.core.errors import KinemaError
from kinema.nets.towers.projectors import pixel_shuffle, projector


def test_pixel_shuffle_by_hand() -> None:
    """Of 2 x 4 patches, the square of columns 2 and 3 is patches 2, 3, 6 and 7, row by row."""
    raster = torch.arange(8.0).view(1, 2, 4, 1)
    assert pixel_shuffle(raster, 2).tolist() == [[[[0, 1, 4, 5], [2, 3, 6, 7]]]]
    assert torch.equal(pixel_shuffle(raster, 1), raster)


@pytest.mark.parametrize("factor", [2, 4])
def test_pixel_shuffle_is_smolvlms(factor: int) -> None:
    torch.manual_seed(0)
    config = transformers.SmolVLMConfig(
        scale_factor=factor,
        vision_config={"hidden_size": 6},
        text_config={"model_type": "llama", "hidden_size": 10, "num_attention_heads": 1},
    )
    theirs, own = SmolVLMConnector(config), projector("pixel_shuffle", 6, 10, factor)
    own.load_state_dict(theirs.modality_projection.state_dict())
    patches = torch.randn(3, 64, 6)
    shuffled = pixel_shuffle(patches.unflatten(1, (8, 8)), factor).flatten(1, 2)
    assert torch.equal(shuffled, theirs.pixel_shuffle(patches, factor))
    assert (own(shuffled) - theirs(patches)).abs().max() <= 1e-6


def test_linear_is_paligemmas() -> None:
    config = transformers.PaliGemmaConfig(
        vision_config={"model_type": "siglip_vision_model", "hidden_size": 6}, projection_dim=10
    )
    theirs, own = PaliGemmaMultiModalProjector(config), projector("linear", 6, 10, None)
    own.load_state_dict(theirs.state_dict())
    patches = torch.randn(2, 5, 6)
    assert torch.equal(own(patches), theirs(patches))


def test_mlp3_is_four_times_as_wide_first() -> None:
    own = projector("mlp3", 6, 10, None)
    assert {name: tuple(weight.shape) for name, weight in own.named_parameters() if "weight" in name} == {
        "fc1.weight": (24, 6),
        "fc2.weight": (10, 24),
        "fc3.weight": (10, 10),
    }
    patches, gelu = torch.randn(2, 6), torch.nn.GELU()
    weights = dict(own.named_parameters())
    hidden = gelu(patches @ weights["fc1.weight"].T + weights["fc1.bias"])
    hidden = gelu(hidden @ weights["fc2.weight"].T + weights["fc2.bias"])
    assert torch.allclose(own(patches), hidden @ weights["fc3.weight"].T + weights["fc3.bias"], atol=1e-6)


def test_a_pixel_shuffle_needs_its_factor() -> None:
    with pytest.raises(KinemaError, match="shuffle is None, expected the factor"):
        projector("pixel_shuffle", 6, 10, None)
    with pytest.raises(KinemaError, match="unknown projector 'mlp'; did you mean 'mlp3'"):
        projector("mlp", 6, 10, None)  # type: ignore[arg-type]
