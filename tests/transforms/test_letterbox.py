"""Whole images in a frame: what is added is black and where it should be."""

from __future__ import annotations

import numpy as np
import pytest

from kinema.core.errors import KinemaError
from kinema.core.spec import Camera, ObservationSpec
from kinema.transforms.letterbox import Letterbox


def test_a_wide_image_gets_black_above_or_around() -> None:
    image = np.full((2, 1, 5, 8, 3), 200, np.uint8)
    centre, _ = Letterbox(height=8, width=8).forward({"image.front": image})
    assert (centre["image.front"][:, :, 1:6] == 200).all()
    assert not centre["image.front"][:, :, :1].any() and not centre["image.front"][:, :, 6:].any()
    end, _ = Letterbox(height=8, width=8, place="end").forward({"image.front": image})
    assert (end["image.front"][:, :, 3:] == 200).all() and not end["image.front"][:, :, :3].any()


def test_aspect_ratio_is_kept() -> None:
    image = np.full((1, 1, 40, 20, 3), 255, np.uint8)
    boxed = Letterbox(height=16, width=16).forward({"image.front": image})[0]["image.front"]
    assert boxed.shape == (1, 1, 16, 16, 3) and boxed[0, 0, :, 4:12].all() and not boxed[0, 0, :, :4].any()
    spec = ObservationSpec(cameras=(Camera(name="front", height=40, width=20),))
    assert Letterbox(height=16, width=16).observed(spec).shape("image.front") == (16, 16, 3)


def test_wrong_sizes_and_places() -> None:
    with pytest.raises(KinemaError, match="expected at least 1x1"):
        Letterbox(height=0, width=4)
    with pytest.raises(KinemaError, match="unknown place in a letterbox 'center'; did you mean 'centre'"):
        Letterbox(height=4, width=4, place="center")  # type: ignore[arg-type]
