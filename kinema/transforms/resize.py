"""Images at the size that a policy is trained at, made by one function wherever a policy learns or acts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from kinema.core.errors import KinemaError
from kinema.core.spec import ObservationSpec
from kinema.core.transform import Sample, Transform


@dataclass(frozen=True, kw_only=True)
class Resize(Transform):
    """Every `image.*` becomes `height` x `width` px, whatever its aspect ratio: choose that of the camera to keep it.

    Pillow's bilinear filter, widened by the scale so that nothing aliases, uint8 to uint8 in integer arithmetic: the
    same bits on every machine. An image of that size already stays as it is, so that frames which a cache holds
    resized pass unchanged. Stand it first: then training keeps the resized frames instead of whole ones.
    """

    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise KinemaError(f"resize to {self.height}x{self.width} px; expected at least 1x1")

    @property
    def key(self) -> str:
        """What names this function of an image: size and method."""
        return f"{self.height}x{self.width}-bilinear"

    def image(self, image: np.ndarray) -> np.ndarray:
        """Return `image` (Hi, Wi, 3) uint8 at this size; read-only."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise KinemaError(f"resize: the image is {image.shape} {image.dtype}, expected (Hi, Wi, 3) uint8")
        if image.shape[:2] == (self.height, self.width):
            return image
        picture = Image.fromarray(np.ascontiguousarray(image))
        return np.asarray(picture.resize((self.width, self.height), Image.Resampling.BILINEAR))

    def forward(self, sample: Sample) -> tuple[Sample, Any]:
        """Return the sample with every `image.*` (B, T, Hi, Wi, 3) at this size."""
        return {key: self._batch(value) if key.startswith("image.") else value for key, value in sample.items()}, None

    def inverse(self, action: np.ndarray, memo: Any) -> np.ndarray:
        """Return the action, which no image size changes."""
        return action

    def observed(self, spec: ObservationSpec) -> ObservationSpec:
        """Return `spec` with all cameras at this size."""
        cameras = tuple(replace(camera, height=self.height, width=self.width) for camera in spec.cameras)
        return replace(spec, cameras=cameras)

    def _batch(self, images: np.ndarray) -> np.ndarray:
        *outer, height, width, channels = images.shape
        if (height, width) == (self.height, self.width):
            return images
        flat = images.reshape(-1, height, width, channels)
        resized = np.empty((len(flat), self.height, self.width, channels), np.uint8)
        for target, image in zip(resized, flat, strict=True):
            target[:] = self.image(image)
        return resized.reshape(*outer, self.height, self.width, channels)


def leading_resize(transforms: tuple[Transform, ...]) -> Resize | None:
    """Return the transform that resizes images before anything else happens to them, if there is one."""
    return transforms[0] if transforms and isinstance(transforms[0], Resize) else None
