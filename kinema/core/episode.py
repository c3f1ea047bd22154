"""One episode in memory: what a simulator or robot hands to the recorder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Start:
    """Which episode to begin; its initial state is a function of these three alone, so policies compare in pairs."""

    task: str
    seed: int
    episode: int


@dataclass(frozen=True, kw_only=True)
class Episode:
    """T steps of one attempt at one instruction.

    `frames` maps `image.<camera>` to (T, Hi, Wi, 3) uint8, `vector.<name>` to (T, D) float32 and `action` to
    (T, A) float32: row t is what was seen at step t and the action taken from there. `origin` says where it came from
    (suite, task, seed, episode index), as plain strings and numbers.
    """

    instruction: str
    frames: Mapping[str, np.ndarray]
    success: bool
    origin: Mapping[str, str | int | float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frames["action"])
