"""The middle of every image, by which Diffusion Policy acts; training crops at random, which is an augmentation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kinema.core.errors import KinemaError, SpecMismatch
from kinema.core.spec import ObservationSpec
from kinema.core.transform import Sample, Transform


@dataclass(frozen=True, kw_only=True)
class CentreCrop(Transform):
    """Every `image.*` becomes its middle `height` x `width` px; of an odd border half a pixel is rounded to even."""

    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise KinemaError(f"crop to {self.height}x{self.width} px; expected at least 1x1")

    def forward(self, sample: Sample) -> tuple[Sample, Any]:
        """Return the sample with every `image.*` (B, T, Hi, Wi, 3) cropped."""
        return {key: self._middle(value) if key.startswith("image.") else value for key, value in sample.items()}, None

    def inverse(self, action: np.ndarray, memo: Any) -> np.ndarray:
        """Return the action, which no crop changes."""
        return action

    def observed(self, spec: ObservationSpec) -> ObservationSpec:
        """Return `spec` with all cameras at this size; raises SpecMismatch for one that is smaller."""
        for camera in spec.cameras:
            if camera.height < self.height or camera.width < self.width:
                raise SpecMismatch(
                    f"camera {camera.name!r} is {camera.height}x{camera.width} px, no {self.height}x{self.width} fit in"
                )
        cameras = tuple(replace(camera, height=self.height, width=self.width) for camera in spec.cameras)
        return replace(spec, cameras=cameras)

    def _middle(self, images: np.ndarray) -> np.ndarray:
        top, left = (
            round((have - want) / 2) for have, want in zip(images.shape[2:4], (self.height, self.width), strict=True)
        )
        return images[:, :, top : top + self.height, left : left + self.width]
