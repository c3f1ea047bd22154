"""Shifts by hand: every result is the picture moved by whole pixels, its border repeated."""

from __future__ import annotations

import numpy as np
import pytest

from kinema.core.errors import KinemaError
from kinema.transforms.random_shift import RandomShift


def moved(image: np.ndarray, down: int, right: int) -> np.ndarray:
    height, width = image.shape[:2]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return image[rows][:, columns]


def test_every_shift_is_possible_and_no_other() -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    batch = np.broadcast_to(image, (400, 2, 7, 9, 3))
    shifted = RandomShift(pixels=2)({"image.a": batch, "vector.v": 1}, np.random.default_rng(1))
    options = {(y, x): moved(image, y, x) for y in range(-2, 3) for x in range(-2, 3)}
    seen = set()
    for window in shifted["image.a"]:
        assert np.array_equal(window[0], window[1]), "the steps of one window move together"
        seen |= {shift for shift, picture in options.items() if np.array_equal(picture, window[0])}
        assert any(np.array_equal(picture, window[0]) for picture in options.values())
    assert seen == set(options)
    assert shifted["vector.v"] == 1


def test_cameras_move_apart_and_zero_changes_nothing() -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 1, 9, 9, 3), np.uint8)
    sample = {"image.a": images, "image.b": images}
    shifted = RandomShift(pixels=3)(sample, np.random.default_rng(1))
    assert not np.array_equal(shifted["image.a"], shifted["image.b"])
    assert RandomShift(pixels=0)(sample, np.random.default_rng(1)) is sample
    with pytest.raises(KinemaError, match="shift of -1 pixels"):
        RandomShift(pixels=-1)
