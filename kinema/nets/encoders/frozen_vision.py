"""A camera through a frozen image transformer and a trained projection.

What is never trained makes the same features of the same frame in every epoch, so that they can be kept on disk
(`--data.cache-features`): training then costs the projection alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kinema.core.errors import SpecMismatch
from kinema.core.spec import ObservationSpec
from kinema.nets.base import Encoder, EncoderConfig, Tokens
from kinema.nets.vision import VisionModel, vision_model


@dataclass(frozen=True, kw_only=True)
class FrozenVision(EncoderConfig):
    """`model` is a local directory as `transformers` saves it, `sha256` pins it: see `VisionModel`.

    The patches of an image become `grid` x `grid` tokens, each the mean of its part.
    """

    camera: str
    model: str
    sha256: str | None = None
    grid: int = 4
    condition: str | None = None

    def pinned(self) -> FrozenVision:
        """Return the configuration with the digest of the model that is there now."""
        return replace(self, sha256=self.frozen().sha256)

    @property
    def reads(self) -> tuple[str, ...]:
        """The camera's image."""
        return (f"image.{self.camera}",)

    @property
    def features_key(self) -> str:
        """Where in a sample the features of the image are, if somebody has kept them: a name of this very function."""
        said = f"{self.frozen().sha256} {self.grid}"
        return f"features.{self.camera}.{hashlib.sha256(said.encode()).hexdigest()[:16]}"

    def frozen(self) -> VisionModel:
        """Return the part that is never trained."""
        return vision_model(self.model, self.sha256)

    def features(self, images: np.ndarray, device: str = "cpu") -> np.ndarray:
        """Return the features (N, tokens, width) float32 of `images` (N, Hi, Wi, 3) uint8, each on its own."""
        return self.frozen().encode(torch.from_numpy(np.array(images)).to(device), self.grid).cpu().numpy()

    def build(self, spec: ObservationSpec, *, obs_horizon: int, width: int) -> FrozenVisionEncoder:
        """Return the encoder; every observed step becomes grid * grid tokens."""
        if self.condition is not None:
            raise SpecMismatch(f"frozen-vision takes no condition, got {self.condition!r}")
        size, model = spec.shape(self.reads[0])[:2], self.frozen()
        if size != model.size:
            raise SpecMismatch(
                f"frozen-vision: camera {self.camera!r} is {size[0]}x{size[1]} px, {self.model} takes "
                f"{model.size[0]}x{model.size[1]}\nfix: --data.resize {model.size[0]} {model.size[1]}"
            )
        if not 1 <= self.grid <= min(model.patches):
            raise SpecMismatch(f"frozen-vision: grid {self.grid}, expected 1 to {min(model.patches)}, its patches")
        return FrozenVisionEncoder(self, model, obs_horizon=obs_horizon, width=width)


class FrozenVisionEncoder(Encoder):
    """uint8 images (B, T, Hi, Wi, 3), or their features (B, T, N, F) if kept, to tokens (B, T * N, D)."""

    def __init__(self, config: FrozenVision, model: VisionModel, *, obs_horizon: int, width: int) -> None:
        super().__init__()
        self.key, self.features_key, self.grid = config.reads[0], config.features_key, config.grid
        self.tokens = obs_horizon * config.grid**2
        self.steps = obs_horizon
        # In a list, so that the frozen model is no submodule: its weights are pinned by digest, not stored again.
        self._model = [model]
        self.project = nn.Sequential(nn.LayerNorm(model.width), nn.Linear(model.width, width))
        self.position = nn.Parameter(torch.zeros(self.tokens, width))

    def forward(self, sample: Mapping[str, Any], condition: Tensor | None) -> Tokens:
        """Return the projected features, each with what training says of its place in image and time."""
        kept = sample.get(self.features_key)
        if kept is None:
            images = sample[self.key]
            kept = self._model[0].encode(images.flatten(0, 1), self.grid).unflatten(0, images.shape[:2])
        return Tokens.present(self.project(kept).flatten(1, 2) + self.position)
