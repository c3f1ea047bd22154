"""RT-1's camera (Brohan et al. 2022): an EfficientNet that the instruction modulates, read out as a few tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from kinema.core.errors import SpecMismatch
from kinema.core.spec import ObservationSpec
from kinema.nets.base import Encoder, EncoderConfig, Tokens
from kinema.nets.blocks import Film
from kinema.nets.film_tower import FilmTower
from kinema.nets.images import IMAGENET_DEVIATION, IMAGENET_MEAN, scaled

SMALLEST = 32


@dataclass(frozen=True, kw_only=True)
class FilmEfficientnet(EncoderConfig):
    """One camera; each step becomes `tokens` tokens. Size "b3" is the published one, for 300 px; "small" for 48 to 96.

    Published, the tokens are 512 wide and made of the 10 x 10 points of the map (of 9 x 9, the paper says).
    """

    camera: str
    condition: str | None = "instruction"
    size: str = "small"
    tokens: int = 8

    @property
    def reads(self) -> tuple[str, ...]:
        """The camera's image."""
        return (f"image.{self.camera}",)

    def build(self, spec: ObservationSpec, *, obs_horizon: int, width: int) -> FilmEfficientnetEncoder:
        """Return the encoder."""
        height, wide, _ = spec.shape(self.reads[0])
        if min(height, wide) < SMALLEST:
            raise SpecMismatch(
                f"film-efficientnet: camera {self.camera!r} is {height}x{wide} px; expected at least {SMALLEST}"
            )
        if self.tokens < 1:
            raise SpecMismatch(f"film-efficientnet: tokens {self.tokens}, expected at least 1")
        return FilmEfficientnetEncoder(self, (height, wide), obs_horizon=obs_horizon, width=width)


class FilmEfficientnetEncoder(Encoder):
    """uint8 images (B, T, Hi, Wi, 3) to tokens (B, T * n, D), in the order of steps."""

    def __init__(self, config: FilmEfficientnet, image: tuple[int, int], *, obs_horizon: int, width: int) -> None:
        super().__init__()
        self.key = config.reads[0]
        self.tokens, self.steps = obs_horizon * config.tokens, obs_horizon
        self.conditioned = config.condition is not None
        self.tower = FilmTower(config.size, image=image, condition_width=width if self.conditioned else None)
        self.project = nn.Conv2d(self.tower.channels, width, 1, bias=False)
        self.film = Film(width, width) if self.conditioned else None
        self.learn = TokenLearner(width, config.tokens)

    def forward(self, sample: Mapping[str, Any], condition: Tensor | None) -> Tokens:
        """Return the tokens of what the condition makes of the images."""
        images = sample[self.key]
        if (condition is not None) != self.conditioned:
            raise ValueError(
                f"conditioned: {self.conditioned}, but a condition is {'' if condition is not None else 'not '}given"
            )
        if condition is not None:
            condition = condition.repeat_interleave(images.shape[1], dim=0)
        pixels = scaled(images, IMAGENET_MEAN, IMAGENET_DEVIATION)
        features = self.project(self.tower(pixels, condition))
        if self.film is not None and condition is not None:
            features = self.film(features, condition)
        made = self.learn(features.flatten(2).transpose(1, 2))
        return Tokens.present(made.unflatten(0, images.shape[:2]).flatten(1, 2))


class TokenLearner(nn.Module):
    """A few tokens of many, each a mean that it weighs (Ryoo et al. 2021, version 1.1); RT-1 has 8 of 81."""

    def __init__(self, width: int, tokens: int, *, hidden: int = 64) -> None:
        super().__init__()
        self.score = nn.Sequential(
            nn.LayerNorm(width, eps=1e-6), nn.Linear(width, hidden), nn.GELU("tanh"), nn.Linear(hidden, tokens)
        )

    def forward(self, values: Tensor) -> Tensor:
        """Return (B, `tokens`, D) for `values` (B, N, D): sums over N by weights that add up to 1."""
        return self.score(values).transpose(1, 2).softmax(-1) @ values
