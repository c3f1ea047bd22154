"""Resizing against numbers by hand, against torch, and against itself on any machine."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from kinema.core.errors import KinemaError
from kinema.core.spec import Camera, ObservationSpec
from kinema.transforms.normalise import Normalise
from kinema.transforms.resize import Resize, leading_resize


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_halving_by_hand() -> None:
    """A triangle of support 2 around x = 1 and x = 3 of four pixels: weights 3, 3, 1 and 1, 3, 3 sevenths."""
    row = np.array([0, 0, 210, 210], np.uint8)
    image = np.broadcast_to(row[None, :, None], (5, 4, 3))
    halved = Resize(height=5, width=2).image(image)
    assert halved.dtype == np.uint8 and halved.shape == (5, 2, 3)
    assert (halved == np.array([30, 180], np.uint8)[None, :, None]).all()
    upright = Resize(height=2, width=5).image(np.ascontiguousarray(image.transpose(1, 0, 2)))
    assert np.array_equal(upright, halved.transpose(1, 0, 2)), "rows and columns are treated alike"


@pytest.mark.parametrize("size", [(96, 96), (24, 130), (150, 40), (60, 80)])
def test_against_torch(size: tuple[int, int]) -> None:
    image = picture(60, 80)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(tensor, size=size, mode="bilinear", antialias=True, align_corners=False)
    found = Resize(height=size[0], width=size[1]).image(image)
    assert np.abs(found - expected[0].permute(1, 2, 0).numpy()).max() <= 1.01, "two roundings to whole levels"


def test_the_same_bits_on_every_machine() -> None:
    """A version of the image library that rounds otherwise would part acting from training."""
    ramp = (np.arange(60 * 80 * 3, dtype=np.uint32) * 2654435761 >> 24).astype(np.uint8).reshape(60, 80, 3)
    digest = hashlib.sha256(Resize(height=24, width=32).image(ramp).tobytes()).hexdigest()
    assert digest == "668e8dd032e7d20c309a913f928f02580a27a5bf7bc3409f3a3c1f49d27acab2"


def test_a_constant_stays_constant_and_the_size_itself_changes_nothing() -> None:
    flat = np.full((48, 64, 3), (7, 200, 255), np.uint8)
    assert (Resize(height=13, width=17).image(flat) == flat[0, 0]).all()
    image = picture(13, 17)
    assert Resize(height=13, width=17).image(image) is image


def test_a_batch_is_its_images_and_doing_it_twice_is_doing_it_once() -> None:
    resize = Resize(height=12, width=20)
    images = np.stack([picture(24, 30, seed) for seed in range(6)]).reshape(3, 2, 24, 30, 3)
    sample = {"image.front": images, "vector.x": np.ones((3, 2, 1), np.float32), "instruction": ["go"] * 3}
    once, _ = resize.forward(sample)
    assert once["image.front"].shape == (3, 2, 12, 20, 3)
    assert np.array_equal(once["image.front"][2, 1], resize.image(images[2, 1]))
    assert once["vector.x"] is sample["vector.x"] and once["instruction"] == ["go"] * 3
    assert resize.forward(once)[0]["image.front"] is once["image.front"]


def test_what_is_observed_afterwards() -> None:
    spec = ObservationSpec(cameras=(Camera(name="a", height=480, width=640), Camera(name="b", height=9, width=9)))
    after = Resize(height=96, width=128).observed(spec)
    assert after.shape("image.a") == after.shape("image.b") == (96, 128, 3)
    assert Normalise(modes={}).observed(spec) == spec


def test_only_the_first_transform_leads() -> None:
    resize, other = Resize(height=2, width=2), Normalise(modes={})
    assert leading_resize((resize, other)) is resize
    assert leading_resize((other, resize)) is None and leading_resize(()) is None


def test_errors() -> None:
    with pytest.raises(KinemaError, match="resize to 0x3 px; expected at least 1x1"):
        Resize(height=0, width=3)
    for image in (np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 3), np.uint8)):
        with pytest.raises(KinemaError, match=r"resize: the image is .* expected \(Hi, Wi, 3\) uint8"):
            Resize(height=2, width=2).image(image)
