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

    A real robot also says when: `captured_ns` maps keys of `frames` to (T,) int64, the monotonic clock [ns] at which
    each row was captured (or, for the action, sent). `valid` maps keys to (T,) bool, False where a row repeats the one
    before because its own was lost.
    """

    instruction: str
    frames: Mapping[str, np.ndarray]
    success: bool
    origin: Mapping[str, str | int | float] = field(default_factory=dict)
    captured_ns: Mapping[str, np.ndarray] = field(default_factory=dict)
    valid: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frames["action"])
