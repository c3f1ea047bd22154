"""Patches against the formula of the stem, their order, and hidden cameras."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from kinema.core.errors import SpecMismatch
from kinema.core.spec import Camera, ObservationSpec
from kinema.nets.encoders.patches import Patches, PatchesEncoder

SPEC = ObservationSpec(cameras=(Camera(name="front", height=32, width=48),))


def images(batch: int = 2, steps: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (batch, steps, 32, 48, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def build(**given: object) -> PatchesEncoder:
    torch.manual_seed(0)
    return Patches(camera="front", channels=(8, 64), patch=8, embedding=12, **given).build(  # type: ignore[arg-type]
        SPEC, obs_horizon=2, width=6
    )


def test_tokens_are_those_of_the_formula() -> None:
    encoder, given = build(), images()
    x = given.flatten(0, 1).permute(0, 3, 1, 2) / 127.5 - 1
    for convolution, norm in ((encoder.stem[0], encoder.stem[1]), (encoder.stem[3], encoder.stem[4])):
        kernel = convolution.weight
        mean, deviation = kernel.mean((1, 2, 3)), kernel.var((1, 2, 3), correction=0).sqrt()
        standard = (kernel - mean[:, None, None, None]) / (deviation[:, None, None, None] + 1e-5)
        x = F.conv2d(x, standard, convolution.bias, stride=2, padding=1)
        x = F.group_norm(x, norm.num_groups, norm.weight, norm.bias, eps=1e-6).relu()
    x = F.conv2d(x, encoder.embed.weight, encoder.embed.bias, stride=2)
    expected = encoder.project(x.permute(0, 2, 3, 1)).reshape(2, 2 * 4 * 6, 6)
    made = encoder({"image.front": given}, None)
    assert torch.allclose(made.values, expected, atol=1e-5) and made.mask.all()
    assert [encoder.stem[0].bias is None, encoder.stem[3].bias is None] == [True, False]
    assert [encoder.stem[1].num_groups, encoder.stem[4].num_groups] == [8, 32]


def test_octos_stem_has_16_pixel_patches() -> None:
    """Of 256 and 128 px cameras 256 and 64 tokens, by 1.05 million weights and the projection."""
    with torch.device("meta"):
        for pixels, tokens in ((256, 256), (128, 64), (40, 9)):
            camera = Camera(name="front", height=pixels, width=pixels)
            encoder = Patches(camera="front").build(ObservationSpec(cameras=(camera,)), obs_horizon=2, width=384)
            assert (encoder.tokens, encoder.steps) == (2 * tokens, 2)
    count = sum(p.numel() for p in encoder.parameters())
    assert count == 3 * 32 * 9 + 32 * 96 * 9 + 96 * 192 * 9 + 192 * 384 * 9 + 672 + 2 * 704 + 385 * 512 + 513 * 384


def test_a_step_and_a_place_are_where_they_belong() -> None:
    encoder, given = build().eval(), images()
    before = encoder({"image.front": given}, None).values.unflatten(1, (2, 4, 6))
    alone = encoder({"image.front": given[:, 1:].repeat(1, 2, 1, 1, 1)}, None).values.unflatten(1, (2, 4, 6))
    assert torch.allclose(alone[:, 0], before[:, 1], atol=1e-5)


def test_it_says_how_often_the_camera_is_hidden() -> None:
    assert build(dropout=0.5).dropout == 0.5 and build().dropout == 0.0


def test_what_does_not_fit_is_named() -> None:
    for given, message in (
        ({"patch": 12}, r"patch 12 must be a multiple of 16"),
        ({"patch": 64}, r"camera 'front' at 32x48 px is smaller than a patch of 64"),
        ({"dropout": 1.0}, r"dropout 1.0 is outside \[0, 1\)"),
        ({"condition": "told"}, r"patches takes no condition, got 'told'"),
    ):
        with pytest.raises(SpecMismatch, match=message):
            Patches(camera="front", **given).build(SPEC, obs_horizon=1, width=6)  # type: ignore[arg-type]
