"""The middle of images is the middle."""

from __future__ import annotations

import numpy as np
import pytest

from kinema.core.errors import KinemaError, SpecMismatch
from kinema.core.spec import Camera, ObservationSpec
from kinema.transforms.centre_crop import CentreCrop


def test_the_middle_of_an_odd_border_is_rounded_to_even() -> None:
    """torchvision's CenterCrop: (64 - 55) / 2 = 4.5 is 4."""
    image = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None], (1, 2, 6, 64, 3))
    made, _ = CentreCrop(height=4, width=55).forward({"image.front": image, "vector.x": 1})
    assert made["image.front"].shape == (1, 2, 4, 55, 3) and made["vector.x"] == 1
    assert made["image.front"][0, 0, 0, 0, 0] == 4


def test_wrong_sizes() -> None:
    with pytest.raises(KinemaError, match="expected at least 1x1"):
        CentreCrop(height=0, width=4)
    spec = ObservationSpec(cameras=(Camera(name="front", height=4, width=4),))
    with pytest.raises(SpecMismatch, match="camera 'front' is 4x4 px, no 5x2 fit in"):
        CentreCrop(height=5, width=2).observed(spec)
