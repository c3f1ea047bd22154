"""Measures of one demonstrated trajectory, in physical units where there are any; larger is worse."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from kinema.core.spec import ActionSpec

METRES = {"m": 1.0, "dm": 0.1, "cm": 0.01, "mm": 0.001}
_MOST_STEPS = 64


def idle(pose: np.ndarray, scale: np.ndarray) -> float:
    """Return the share of steps (T, D) that move less than 5 % of `scale` (D,), the dataset's usual fast step."""
    if len(pose) < 2:
        return 0.0
    moved = np.abs(np.diff(pose, axis=0)) / np.where(scale > 0, scale, np.inf)
    return float((moved.max(axis=1) < 0.05).mean())


def jerk(pose: np.ndarray, rate_hz: float) -> float:
    """Return the root mean square third difference of a path (T, D), in its unit per second cubed."""
    if len(pose) < 4:
        return 0.0
    third = np.diff(pose.astype(np.float64), n=3, axis=0) * rate_hz**3
    return float(np.sqrt((third**2).sum(axis=1).mean()))


def jump(position_m: np.ndarray) -> float:
    """Return by how much the largest step [m] of a path (T, D) exceeds its 95 % quantile: 0 for any steady motion."""
    if len(position_m) < 3:
        return 0.0
    steps = np.linalg.norm(np.diff(position_m.astype(np.float64), axis=0), axis=1)
    return float(steps.max() - np.quantile(steps, 0.95))


def reversals(command: np.ndarray, low: float, high: float) -> int:
    """Return how often a gripper command (T,) changes sides; the middle fifth of its range is no side."""
    middle, margin = (low + high) / 2, 0.1 * (high - low)
    sides = np.sign(np.where(np.abs(command - middle) > margin, command - middle, 0))
    sides = sides[sides != 0]
    return int((np.diff(sides) != 0).sum())


def outlying(norms: np.ndarray, mean: float, std: float, sigma: float) -> float:
    """Return the share of action norms (T,) that are more than `sigma` deviations from the mean."""
    return 0.0 if std == 0 else float((np.abs(norms - mean) > sigma * std).mean())


def saturated(action: np.ndarray, spec: ActionSpec, columns: Sequence[int]) -> float:
    """Return the share of steps in which one of the `columns` of the action (T, A) is at or beyond a bound."""
    if not len(columns):
        return 0.0
    chosen = list(columns)
    low, high = (np.array(bound)[chosen] for bound in (spec.low, spec.high))
    margin = 1e-3 * (high - low)
    values = action[:, chosen]
    return float(((values <= low + margin) | (values >= high - margin)).any(axis=1).mean())


def strangeness(paths: Sequence[np.ndarray], rng: np.random.Generator, references: int = 20) -> np.ndarray:
    """Return how far each path (T, D), of state and action in units of their deviation, is from the other paths.

    The distance of a step to another path is that to its nearest step; of a step, the median over (at most
    `references`) other paths, so that the larger part decides what is usual; of a path, the mean over its steps.
    """
    thin = [path[np.linspace(0, len(path) - 1, min(len(path), _MOST_STEPS)).round().astype(int)] for path in paths]
    chosen = np.sort(rng.permutation(len(thin))[:references])
    trees = {int(index): cKDTree(thin[index]) for index in chosen}
    found = np.zeros(len(thin))
    for index, path in enumerate(thin):
        distances = [tree.query(path)[0] for other, tree in trees.items() if other != index]
        found[index] = np.median(distances, axis=0).mean() if distances else 0.0
    return found
