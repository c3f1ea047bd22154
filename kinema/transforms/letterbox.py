"""Whole images in a frame of one size: their aspect ratio is kept and the rest is black (openpi, SmolVLA)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from kinema.core.errors import KinemaError, unknown
from kinema.core.spec import ObservationSpec
from kinema.core.transform import Sample, Transform
from kinema.transforms.resize import Resize

Place = Literal["centre", "end"]


@dataclass(frozen=True, kw_only=True)
class Letterbox(Transform):
    """Every `image.*` as large as fits into `height` x `width` px, by `Resize`; `place` says where it is put.

    "centre" is openpi's, of an odd rest the larger half below and to the right; "end", below and to the right, is
    SmolVLA's. LeRobot interpolates in floating point without widening the filter: what it makes of an image that does
    not have its size already differs by a few of 255.
    """

    height: int
    width: int
    place: Place = "centre"

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise KinemaError(f"letterbox of {self.height}x{self.width} px; expected at least 1x1")
        if self.place not in get_args(Place):
            raise unknown("place in a letterbox", self.place, get_args(Place))

    def forward(self, sample: Sample) -> tuple[Sample, Any]:
        """Return the sample with every `image.*` (B, T, Hi, Wi, 3) at this size."""
        return {key: self._boxed(value) if key.startswith("image.") else value for key, value in sample.items()}, None

    def inverse(self, action: np.ndarray, memo: Any) -> np.ndarray:
        """Return the action, which no image size changes."""
        return action

    def observed(self, spec: ObservationSpec) -> ObservationSpec:
        """Return `spec` with all cameras at this size."""
        cameras = tuple(replace(camera, height=self.height, width=self.width) for camera in spec.cameras)
        return replace(spec, cameras=cameras)

    def _boxed(self, images: np.ndarray) -> np.ndarray:
        ratio = max(images.shape[3] / self.width, images.shape[2] / self.height)
        high, wide = (max(1, int(size / ratio)) for size in images.shape[2:4])
        resized, _ = Resize(height=high, width=wide).forward({"image.": images})
        rest = self.height - high, self.width - wide
        before = [size // 2 if self.place == "centre" else size for size in rest]
        sides = [(first, size - first) for first, size in zip(before, rest, strict=True)]
        return np.pad(resized["image."], [(0, 0), (0, 0), *sides, (0, 0)])
