"""Which outcomes the exact tests of two independent arms reject, by enumeration of all of them."""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
from scipy import stats

from kinema.core.errors import KinemaError, unknown
from kinema.evaluation.comparison import Alternative, check_alternative
from kinema.evaluation.intervals import check_level

Exact = Literal["fisher", "barnard", "boschloo"]
LARGEST = 2000
"""Attempts per arm up to which outcomes are enumerated."""


def rejected(n: int, *, formula: str, alpha: float, alternative: Alternative) -> np.ndarray:
    """Return which outcomes (successes of the first, of the second) an exact test rejects, bool (n + 1, n + 1).

    Between arms of equal size the two-sided tests at alpha reject what either one-sided test rejects at alpha/2.
    """
    check_level("alpha", alpha)
    check_alternative(alternative)
    if formula not in get_args(Exact):
        raise unknown("exact test", formula, get_args(Exact))
    if not 1 <= n <= LARGEST:
        raise KinemaError(f"{n} attempts per arm: expected 1 to {LARGEST}")
    level = alpha / 2 if alternative == "two-sided" else alpha
    order = _fisher_p(n) if formula in ("fisher", "boschloo") else -_pooled_z(n)
    first = np.round(order, 12) <= level if formula == "fisher" else _unconditional(order, n, level)
    if alternative == "greater":
        return first
    return first.T if alternative == "less" else first | first.T


def _unconditional(order: np.ndarray, n: int, level: float) -> np.ndarray:
    """Reject all tables up to a value of `order` (small is extreme) while the worst common rate rejects <= `level`."""
    order = np.round(order, 12)
    cuts = np.unique(order[np.tril_indices(n + 1, -1)])
    # rates up to 1/2 do: swapping success with failure and the arms with each other leaves order and chance as they are
    rates = np.sin(np.linspace(0, math.pi / 4, 257)[1:]) ** 2
    outcomes = stats.binom.pmf(np.arange(n + 1), n, rates[:, None])
    low, high = -1, len(cuts)
    while high - low > 1:
        middle = (low + high) // 2
        size = (outcomes @ (order <= cuts[middle]) * outcomes).sum(axis=1).max()
        low, high = (middle, high) if size <= level else (low, middle)
    return order <= cuts[low] if low >= 0 else np.zeros_like(order, dtype=bool)


def _fisher_p(n: int) -> np.ndarray:
    first = np.arange(n + 1)[:, None]
    return stats.hypergeom.sf(first - 1, 2 * n, first + first.T, n)


def _pooled_z(n: int) -> np.ndarray:
    first = np.arange(n + 1, dtype=np.float64)[:, None]
    total = first + first.T
    variance = total * (2 * n - total) / (2 * n)
    return np.where(variance > 0, (first - first.T) / np.sqrt(np.where(variance > 0, variance, 1)), 0.0)


def probability(region: np.ndarray, p_first: float, p_second: float) -> float:
    """Return the chance that the outcome lies in `region`, bool (n + 1, n + 1), when the true rates are these."""
    counts = np.arange(len(region))
    first, second = (stats.binom.pmf(counts, len(region) - 1, p) for p in (p_first, p_second))
    return float(first @ region @ second)
