"""The convolutional denoiser of Diffusion Policy: a U-Net over the steps of a chunk (Chi et al. 2023, section 3.1).

Time and readout modulate every block by scale and bias (FiLM). Each level but the last halves the number of steps on
the way down and doubles it on the way up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kinema.core.errors import KinemaError
from kinema.nets.base import Context
from kinema.nets.blocks import sinusoidal
from kinema.nets.convolutions import Conv1d, ConvTranspose1d
from kinema.nets.denoisers.base import Denoiser, DenoiserConfig, pooled

TIME_STEPS = 100.0
"""t counts as this many positions, so that with a hundred diffusion steps it is embedded as Diffusion Policy does."""


@dataclass(frozen=True, kw_only=True)
class Unet1d(DenoiserConfig):
    """`channels` of each level; convolutions over `kernel` steps, normalised in `groups` groups."""

    channels: tuple[int, ...] = (256, 512, 1024)
    kernel: int = 5
    groups: int = 8
    time_width: int = 256

    def build(self, *, action_width: int, pred_horizon: int, width: int) -> Unet1dDenoiser:
        """Return the module; a horizon that cannot be halved at every level but one is a KinemaError."""
        if self.groups < 1 or not self.channels or any(c < 1 or c % self.groups for c in self.channels):
            raise KinemaError(f"unet1d: channels {self.channels} must be multiples of groups {self.groups}, at least 1")
        if self.kernel % 2 == 0 or self.time_width < 4 or self.time_width % 2:
            raise KinemaError(
                f"unet1d: kernel {self.kernel} must be odd, time_width {self.time_width} even and at least 4"
            )
        factor = 2 ** (len(self.channels) - 1)
        if pred_horizon % factor:
            fitting = max(factor, round(pred_horizon / factor) * factor)
            raise KinemaError(
                f"unet1d: pred_horizon {pred_horizon} cannot be halved {len(self.channels) - 1} times, "
                f"as {len(self.channels)} levels of channels need; expected a multiple of {factor}, such as {fitting}"
            )
        return Unet1dDenoiser(self, action_width=action_width, width=width)


class Unet1dDenoiser(Denoiser):
    """Convolves over the steps (B, C, H) of a chunk."""

    def __init__(self, config: Unet1d, *, action_width: int, width: int) -> None:
        super().__init__()
        size, channels = config.time_width, config.channels
        self.time = nn.Sequential(nn.Linear(size, 4 * size), nn.Mish(), nn.Linear(4 * size, size))
        self.time_width = size
        last = len(channels) - 1
        self.down = nn.ModuleList(
            [
                _Level(before, after, config, size + width, resize=None if number == last else _halve(after))
                for number, (before, after) in enumerate(zip((action_width, *channels), channels, strict=False))
            ]
        )
        self.middle = nn.ModuleList([_Block(channels[-1], channels[-1], config, size + width) for _ in range(2)])
        self.up = nn.ModuleList(
            [
                _Level(2 * before, after, config, size + width, resize=_double(after))
                for before, after in zip(channels[:0:-1], channels[-2::-1], strict=True)
            ]
        )
        self.leave = nn.Sequential(_convolution(channels[0], channels[0], config), Conv1d(channels[0], action_width, 1))

    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        """Return the prediction (B, H, A)."""
        readout = pooled(context)
        longest = 2 * math.pi * 1e4 / TIME_STEPS  # the wavelengths of Vaswani et al. 2017, in units of t
        time = sinusoidal(t, self.time_width, shortest=longest / 1e4, longest=longest)
        condition = torch.cat([self.time(time.to(readout.dtype)), readout], dim=-1)
        hidden = x.to(readout.dtype).transpose(1, 2)
        skips = []
        for level in self.down:
            hidden, resized = level(hidden, condition)
            skips.append(hidden)
            hidden = resized
        for block in self.middle:
            hidden = block(hidden, condition)
        for level in self.up:
            _, hidden = level(torch.cat([hidden, skips.pop()], dim=1), condition)
        return self.leave(hidden).transpose(1, 2).float()


class _Level(nn.Module):
    """Two blocks at one length, then a change of length, or none."""

    def __init__(self, before: int, after: int, config: Unet1d, condition: int, *, resize: nn.Module | None) -> None:
        super().__init__()
        self.first = _Block(before, after, config, condition)
        self.second = _Block(after, after, config, condition)
        self.resize = nn.Identity() if resize is None else resize

    def forward(self, hidden: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features (B, C, H) before and after the change of length."""
        hidden = self.second(self.first(hidden, condition), condition)
        return hidden, self.resize(hidden)


class _Block(nn.Module):
    """Two convolutions with the modulation between them, and a shortcut around all."""

    def __init__(self, before: int, after: int, config: Unet1d, condition: int) -> None:
        super().__init__()
        self.enter = _convolution(before, after, config)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(condition, 2 * after))
        self.leave = _convolution(after, after, config)
        self.shortcut = Conv1d(before, after, 1) if before != after else nn.Identity()

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        """Return (B, C, H) for `hidden` (B, C, H) and `condition` (B, D)."""
        scale, bias = self.film(condition)[..., None].chunk(2, dim=1)
        return self.leave(scale * self.enter(hidden) + bias) + self.shortcut(hidden)


def _convolution(before: int, after: int, config: Unet1d) -> nn.Sequential:
    return nn.Sequential(
        Conv1d(before, after, config.kernel, padding=config.kernel // 2),
        nn.GroupNorm(config.groups, after),
        nn.Mish(),
    )


def _halve(channels: int) -> nn.Module:
    return Conv1d(channels, channels, 3, stride=2, padding=1)


def _double(channels: int) -> nn.Module:
    return ConvTranspose1d(channels, channels, 4, stride=2, padding=1)
