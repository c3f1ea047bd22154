"""Intervals over tasks: how well a policy does on tasks like these, of which those tried are a sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kinema.core.errors import KinemaError
from kinema.evaluation.intervals import CONFIDENCE, check_level

FEWEST = 10


def cluster_bootstrap(
    values: Sequence[float], *, rng: np.random.Generator, confidence: float = CONFIDENCE, resamples: int = 10_000
) -> tuple[float, float]:
    """Return the interval (low, high) of the mean over tasks, from one value a task: its rate, or a paired difference.

    Whole tasks are drawn again with replacement, because attempts at one task resemble each other more than attempts at
    two; treating them as independent makes the interval too narrow. The ends are percentiles of the resampled means,
    pushed outwards by sqrt(m / (m - 1)) for m tasks, which undoes the bootstrap's bias of the variance (Davison and
    Hinkley 1997, sec. 3.8; Cameron, Gelbach and Miller 2008). Raises KinemaError for fewer than 10 tasks, where the
    percentiles say too little. `MeanRate.interval` is about these very tasks instead, and needs no such number.
    """
    check_level("confidence", confidence)
    m = len(values)
    if m < FEWEST:
        raise KinemaError(
            f"{m} tasks are too few to speak about tasks like them; expected at least {FEWEST}\n"
            "fix: speak about these tasks alone (MeanRate.interval), or try more tasks"
        )
    own = np.asarray(values, dtype=np.float64)
    if own.ndim != 1 or not np.isfinite(own).all():
        raise KinemaError(f"expected one finite value a task, got shape {own.shape}")
    means = own[rng.integers(0, m, (resamples, m))].mean(axis=1)
    ends = np.quantile(means, ((1 - confidence) / 2, (1 + confidence) / 2))
    low, high = own.mean() + (ends - own.mean()) * np.sqrt(m / (m - 1))
    return float(low), float(high)
