"""Fork-2D: a point robot drives past a round obstacle, on the left or on the right; both are right, their mean is not.

The smallest distribution of chunks that separates action heads: what averages the two ways hits the obstacle, what
keeps one of them is safe and narrow, what keeps both has learnt the demonstrations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kinema.core.errors import KinemaError

START, GOAL = np.array([-0.9, 0.0], np.float32), np.array([0.9, 0.0], np.float32)
RADIUS = 0.3
"""Radius of the obstacle, a disc around the origin."""
AMPLITUDE, SPREAD, NOISE = 0.6, 0.05, 0.02
"""Height of the detour at the obstacle, its standard deviation between demonstrations, and that of each waypoint."""
ARRIVAL = 0.3
"""How far from the goal a chunk may end."""
TOLERANCE = 0.3
"""Correlated variant: how far each component may be from +-AMPLITUDE."""


@dataclass(frozen=True)
class Modes:
    """Fractions that add up to one."""

    left: float
    right: float
    invalid: float

    @property
    def cover(self) -> float:
        """The smaller of the two ways: 0.5 where both are equally frequent, 0 where one is missing."""
        return min(self.left, self.right)


@dataclass(frozen=True, kw_only=True)
class Fork:
    """Demonstrations of which the fraction `majority` passes on the left (positive y), in `horizon` waypoints.

    The `correlated` variant has no obstacle: both components of every step lie near +0.6 or both near -0.6, one sign a
    chunk. Each component alone is undecided, the pair has two modes out of four: heads that draw components one by one
    are wrong at half of the steps.
    """

    majority: float = 0.5
    correlated: bool = False
    horizon: int = 16

    def __post_init__(self) -> None:
        if not 0.0 <= self.majority <= 1.0 or self.horizon < 1:
            raise KinemaError(
                f"fork: majority {self.majority} must lie in [0, 1] and horizon {self.horizon} be at least 1"
            )

    @property
    def centres(self) -> np.ndarray:
        """The noiseless chunks of the two modes (2, H, 2), left first."""
        if self.correlated:
            left = np.full((self.horizon, 2), AMPLITUDE, np.float32)
            return np.stack([left, -left])
        way = np.arange(1, self.horizon + 1, dtype=np.float32)[:, None] / self.horizon
        side = np.array([0.0, AMPLITUDE], np.float32) * np.sin(np.pi * way)
        return np.stack([START + way * (GOAL - START) + sign * side for sign in (1, -1)]).astype(np.float32)

    def chunks(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return `count` demonstrated chunks (N, H, 2) float32 in [-1, 1]: waypoints after each step, from START."""
        left, right = self.centres
        middle, half = (left + right) / 2, (left - right) / 2
        sign = np.where(rng.random(count) < self.majority, 1.0, -1.0)
        scale = sign * (1.0 + rng.normal(0.0, SPREAD / AMPLITUDE, count))
        noise = rng.normal(0.0, NOISE, (count, *left.shape))
        return np.clip(middle + scale[:, None, None] * half + noise, -1.0, 1.0).astype(np.float32)

    def judge(self, chunks: np.ndarray) -> Modes:
        """Return the fractions of `chunks` (N, H, 2) that pass left, pass right, or are invalid.

        Invalid is a chunk whose way (from START, straight between waypoints) cuts the obstacle or that ends away from
        the goal. In the correlated variant the fractions are of steps: both components within 0.3 of +0.6 (left), of
        -0.6 (right), or off-mode (invalid).
        """
        if chunks.ndim != 3 or chunks.shape[1:] != (self.horizon, 2) or not len(chunks):
            raise KinemaError(
                f"fork: chunks of shape {chunks.shape}, expected (N, {self.horizon}, 2) with N at least 1"
            )
        if self.correlated:
            left, right = ((np.abs(chunks - sign * AMPLITUDE) < TOLERANCE).all(-1) for sign in (1, -1))
        else:
            valid = (clearance(chunks) > RADIUS) & (np.linalg.norm(chunks[:, -1] - GOAL, axis=-1) < ARRIVAL)
            side = chunks[..., 1].mean(1)
            left, right = valid & (side > 0), valid & (side <= 0)
        return Modes(float(left.mean()), float(right.mean()), float(1.0 - left.mean() - right.mean()))


def clearance(chunks: np.ndarray) -> np.ndarray:
    """Return the smallest distance (N,) of each way through `chunks` (N, H, 2), from START, to the origin."""
    ends = np.asarray(chunks, np.float64)
    begins = np.concatenate([np.broadcast_to(START, (len(ends), 1, 2)), ends[:, :-1]], axis=1)
    step = ends - begins
    squared = np.maximum((step**2).sum(-1), 1e-12)
    nearest = np.clip(-(begins * step).sum(-1) / squared, 0.0, 1.0)
    return np.linalg.norm(begins + nearest[..., None] * step, axis=-1).min(1)
