"""Watching an episode again: the same start and actions give the same motion, so evaluation films nothing."""

from __future__ import annotations

import numpy as np

from kinema.core.episode import Start
from kinema.sim.suites.base import SimEnvironment


def replay(
    environment: SimEnvironment, start: Start, actions: np.ndarray, *, size: int, every: int
) -> tuple[np.ndarray, bool]:
    """Return pictures (N, size, size, 3) uint8 of the episode from `start` under `actions` (T, A), and its success.

    The first, every `every`-th after it and the last.
    """
    environment.begin(start)
    pictures, success = [environment.picture(size)], False
    for index, action in enumerate(actions, start=1):
        success = environment.step(action)
        if index % every == 0 or index == len(actions):
            pictures.append(environment.picture(size))
    return np.stack(pictures), success
