"""STEP: a sequential Barnard test whose decision regions are made once, for a largest number of pairs.

Snyder et al., "Is your imitation learning policy better than mine?", RSS 2025, arXiv 2503.10966.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from scipy.special import gammaln, xlog1py, xlogy

from kinema.core.errors import KinemaError
from kinema.evaluation.sequential.base import SequentialTest

LARGEST = 1000
RATES = 129
SLACK = 1e-3
"""Share of the risk kept back, for common rates between those that are looked at."""
NOTHING = 1e-11


@dataclass(frozen=True, kw_only=True)
class Step(SequentialTest):
    """The test for attempts whose outcomes are independent given the two rates.

    By pair n it may have spent the risk alpha (n / n_max)^(e^shape): shape 0 spends evenly, below 0 early, above 0
    late. Each n rejects as many outcomes as its risk allows, those first that are least likely under their worst common
    rate, so that no two equally good policies, whatever their rate, are told apart with more than the allowed chance.
    The authors maximise the same number by linear programming and toss a coin at the edge; here nothing is tossed, and
    the risk left over is spent later. Starts whose difficulty both policies share make it err to the safe side. The
    regions are made when first asked for: about 1 s for n_max 200, 15 s for 500.
    """

    shape: float = 0.0

    discordant: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_max > LARGEST:
            raise KinemaError(f"n_max {self.n_max}: regions are made for at most {LARGEST} pairs")

    @cached_property
    def boundary(self) -> np.ndarray:
        """From how many successes on the first is better, int, [pairs, successes of the second]."""
        return boundary(self.n_max, self.level, self.shape)

    def favours_first(self, n: int) -> np.ndarray:
        """Return for which successes (of the first, of the second) the first is better, bool (n+1, n+1)."""
        return np.arange(n + 1)[:, None] >= self.boundary[n, None, : n + 1]


def boundary(n_max: int, level: float, shape: float = 0.0) -> np.ndarray:
    """Return the fewest successes of the first that decide for it, [n, successes of the second], n + 1 where none do.

    Given the counts, every order of outcomes is equally likely whatever the common rate, so the chance `open_` that no
    decision fell on the way to (x, y) follows from n alone: of its last pair, the first succeeded with chance x/n and
    the second with y/n. The risk at a common rate p is the sum of open_(x, y) b(x; n, p) b(y; n, p) over the rejected.
    """
    # rates up to 1/2 do: (x, y) is rejected together with (n - y, n - x), its image when success and failure swap
    rates = np.sin(np.linspace(0, math.pi / 4, RATES)[1:]) ** 2
    limits = np.full((n_max + 1, n_max + 1), n_max + 1)
    open_, spent = np.ones((1, 1)), np.zeros(len(rates))
    for n in range(1, n_max + 1):
        open_ = _next_open(open_, n)
        chances = (
            np.exp(_log_ways(n)[:, None] + np.outer(np.arange(n + 1), np.log(rates / (1 - rates)))) * (1 - rates) ** n
        )
        allowed = level * (1 - SLACK) * (n / n_max) ** math.exp(shape)
        region = _closed(_affordable(open_, chances, allowed - spent))
        limits[n, : n + 1] = np.where(region.any(axis=0), region.argmax(axis=0), n + 1)
        spent += ((region * open_) @ chances * chances).sum(axis=0)
        open_ = np.where(region, 0.0, open_)
    return limits


def _next_open(open_: np.ndarray, n: int) -> np.ndarray:
    share = np.arange(n + 1) / n
    rows = np.zeros((n + 1, n))
    rows[1:] = share[1:, None] * open_
    rows[:-1] += (1 - share[:-1, None]) * open_
    ahead = np.zeros((n + 1, n + 1))
    ahead[:, 1:] = share[1:] * rows
    ahead[:, :-1] += (1 - share[:-1]) * rows
    return ahead


def _affordable(open_: np.ndarray, chances: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Choose outcomes, least likely first, each that still fits into the risk `left` (P,) at every rate.

    `chances` (n + 1, P) are the binomial ones of each count. An outcome needs its betters to be chosen. Those of no
    measurable chance are chosen for nothing; as their sum is counted as spent, it is made up for at the next n.
    """
    n = len(open_) - 1
    first, second = np.indices(open_.shape)
    worst = _worst_chance(open_)
    chosen = (first > second) & (worst < NOTHING)
    x, y = np.nonzero((first > second) & (first + second <= n) & ~chosen & (worst <= left.max()))
    order = np.lexsort((x, worst[x, y]))
    for i, j in zip(x[order].tolist(), y[order].tolist(), strict=True):
        if (i < n and not chosen[i + 1, j]) or (j > 0 and not chosen[i, j - 1]):
            continue
        mirrored = chances[n - j] * chances[n - i] if i + j < n else 0.0
        risk = open_[i, j] * (chances[i] * chances[j] + mirrored)
        if (risk <= left).all():
            chosen[i, j] = chosen[n - j, n - i] = True
            left = left - risk
    return chosen


def _worst_chance(open_: np.ndarray) -> np.ndarray:
    """Return the chance of each outcome at the common rate that makes it likeliest, which is (x + y) / 2n."""
    n = len(open_) - 1
    share = np.add.outer(np.arange(n + 1), np.arange(n + 1)) / (2 * n)
    return open_ * np.exp(
        np.add.outer(_log_ways(n), _log_ways(n)) + 2 * n * (xlogy(share, share) + xlog1py(1 - share, -share))
    )


def _closed(region: np.ndarray) -> np.ndarray:
    """Keep the outcomes of `region` whose betters are in it too: more of the first, fewer of the second."""
    above = np.logical_and.accumulate(region[::-1], axis=0)[::-1]
    return np.logical_and.accumulate(above, axis=1)


def _log_ways(n: int) -> np.ndarray:
    counts = np.arange(n + 1)
    return gammaln(n + 1) - gammaln(counts + 1) - gammaln(n - counts + 1)
