"""Shift training images by a few pixels (Yarats et al. 2021, DrQ)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kinema.core.errors import KinemaError
from kinema.core.transform import Augmentation, Sample


@dataclass(frozen=True, kw_only=True)
class RandomShift(Augmentation):
    """Each image of a batch moves by up to `pixels` in both directions, the border repeated; 0 changes nothing.

    All steps of one window move together. On a fixed camera a pixel is a distance, so keep the shift below the
    precision that the task needs.
    """

    pixels: int

    def __post_init__(self) -> None:
        if self.pixels < 0:
            raise KinemaError(f"random shift of {self.pixels} pixels; expected 0 or more")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the sample with every `image.*` (B, T, Hi, Wi, 3) shifted."""
        if self.pixels == 0:
            return sample
        return {key: self._shift(value, rng) if key.startswith("image.") else value for key, value in sample.items()}

    def _shift(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        batch, _, height, width, _ = images.shape
        moves = rng.integers(0, 2 * self.pixels + 1, size=(batch, 2))
        pad = (self.pixels, self.pixels)
        padded = np.pad(images, ((0, 0), (0, 0), pad, pad, (0, 0)), mode="edge")
        return np.stack([padded[i, :, y : y + height, x : x + width] for i, (y, x) in enumerate(moves)])
