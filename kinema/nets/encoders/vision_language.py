"""Cameras through the image transformers of a vision-language model, onto its language model's width.

One shared set of towers sees all cameras. Several towers are laid side by side on channels, patch by patch, each with
its own scaling of the pixels (Prismatic: Karamcheti et al. 2024; OpenVLA: DINOv2 then SigLIP).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from kinema.core.errors import KinemaError, SpecMismatch, unknown
from kinema.core.spec import ObservationSpec
from kinema.nets.base import Encoder, EncoderConfig, Tokens
from kinema.nets.towers.projectors import Projector, pixel_shuffle, projector
from kinema.nets.towers.sizes import TINY_SIGLIP, Tower
from kinema.nets.towers.tower import TowerModel

Frozen = Literal["nothing", "towers", "all"]


@dataclass(frozen=True, kw_only=True)
class VisionLanguage(EncoderConfig):
    """`towers` see all `cameras`; with `grid` the patches of an image become grid x grid, each the mean of its part.

    `projector` is "linear" (PaliGemma), "mlp3" (OpenVLA) or "pixel_shuffle" (SmolVLM), which joins squares of
    `shuffle` x `shuffle` patches. `dropout` is the chance that training hides a camera, but never all of them.
    `frozen` "towers" leaves only the projector to training, "all" nothing.
    """

    cameras: tuple[str, ...]
    towers: tuple[Tower, ...] = (TINY_SIGLIP,)
    projector: Projector = "linear"
    shuffle: int | None = None
    grid: int | None = None
    dropout: float = 0.0
    frozen: Frozen = "nothing"
    condition: str | None = None

    def __post_init__(self) -> None:
        for kind, given, known in (("projector", self.projector, Projector), ("frozen", self.frozen, Frozen)):
            if given not in get_args(known):
                raise unknown(f"{kind} of vision-language", given, get_args(known))
        if not self.towers or not self.cameras or not 0 <= self.dropout < 1:
            raise KinemaError(
                f"vision-language: {len(self.towers)} towers, {len(self.cameras)} cameras, dropout {self.dropout}; "
                "expected at least one of each and a chance in [0, 1)"
            )
        if any((tower.patches, tower.size) != (self.towers[0].patches, self.towers[0].size) for tower in self.towers):
            said = ", ".join(f"{t.family} {_by(t.patches)} of {_by(t.size)} px" for t in self.towers)
            raise KinemaError(
                f"vision-language: towers side by side need the same patches of the same image, got {said}"
            )
        if (self.shuffle is not None) != (self.projector == "pixel_shuffle"):
            raise KinemaError(
                f"vision-language: projector {self.projector!r} with shuffle {self.shuffle}; "
                "expected a factor for pixel_shuffle, and None for any other"
            )
        if self.grid is not None and not 1 <= self.grid <= min(self.towers[0].patches):
            raise KinemaError(
                f"vision-language: grid {self.grid}, expected 1 to {min(self.towers[0].patches)}, its patches"
            )
        if any(side % (self.shuffle or 1) for side in self.raster):
            raise KinemaError(f"vision-language: shuffle {self.shuffle} does not divide {_by(self.raster)} patches")

    @property
    def reads(self) -> tuple[str, ...]:
        """The cameras' images."""
        return tuple(f"image.{camera}" for camera in self.cameras)

    @property
    def raster(self) -> tuple[int, int]:
        """Rows and columns of patches that the projector reads."""
        return (self.grid, self.grid) if self.grid is not None else self.towers[0].patches

    @property
    def tokens(self) -> int:
        """How many tokens an image becomes."""
        return self.raster[0] * self.raster[1] // (self.shuffle or 1) ** 2

    def build(self, spec: ObservationSpec, *, obs_horizon: int, width: int) -> VisionLanguageEncoder:
        """Return the encoder; every observed step becomes the tokens of the cameras, in order."""
        if self.condition is not None:
            raise SpecMismatch(f"vision-language takes no condition, got {self.condition!r}")
        takes = self.towers[0].size
        for camera, key in zip(self.cameras, self.reads, strict=True):
            size = spec.shape(key)[:2]
            if size != takes:
                raise SpecMismatch(
                    f"vision-language: camera {camera!r} is {_by(size)} px, its towers take {_by(takes)}\n"
                    f"fix: Resize(height={takes[0]}, width={takes[1]}) as the policy's first transform"
                )
        return VisionLanguageEncoder(self, obs_horizon=obs_horizon, width=width)


class VisionLanguageEncoder(Encoder):
    """uint8 images (B, T, Hi, Wi, 3) of C cameras to tokens (B, T * C * N, D), step by step, camera by camera."""

    def __init__(self, config: VisionLanguage, *, obs_horizon: int, width: int) -> None:
        super().__init__()
        self.config = config
        self.steps, self.cameras, self.dropout = obs_horizon, len(config.cameras), config.dropout
        self.tokens = obs_horizon * len(config.cameras) * config.tokens
        self.towers = nn.ModuleList([TowerModel(tower) for tower in config.towers])
        channels = sum(tower.width for tower in config.towers)
        self.projector = projector(config.projector, channels, width, config.shuffle)
        for part in self._frozen():
            part.requires_grad_(False)
        self.train()

    def forward(self, sample: Mapping[str, Any], condition: Tensor | None) -> Tokens:
        """Return the projected patches."""
        images = torch.stack([sample[key] for key in self.config.reads], dim=2)
        return Tokens.present(self.project(self.patches(images.flatten(0, 2))).view(len(images), self.tokens, -1))

    def patches(self, images: Tensor) -> Tensor:
        """Return what all towers see in `images` (N, Hi, Wi, 3), side by side: (N, rows, columns, channels)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.frozen == "nothing"):
            seen = torch.cat([tower(images) for tower in self.towers], dim=-1)
            raster = seen.unflatten(1, self.config.towers[0].patches)
            if self.config.grid is None:
                return raster
            pooled = nn.functional.adaptive_avg_pool2d(raster.permute(0, 3, 1, 2), self.config.grid)
            return pooled.permute(0, 2, 3, 1)

    def project(self, raster: Tensor) -> Tensor:
        """Return the tokens (N, tokens, D) of patches (N, rows, columns, channels)."""
        if self.config.shuffle is not None:
            raster = pixel_shuffle(raster, self.config.shuffle)
        tokens: Tensor = self.projector(raster.flatten(1, 2))
        return tokens

    def train(self, mode: bool = True) -> VisionLanguageEncoder:
        """Set training of what is not frozen; the rest stays as when acting."""
        super().train(mode)
        for part in self._frozen():
            part.eval()
        return self

    def _frozen(self) -> list[nn.Module]:
        parts: list[nn.Module] = [self.towers, self.projector]
        return parts[: {"nothing": 0, "towers": 1, "all": 2}[self.config.frozen]]


def _by(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))
