"""Lai's nearly optimal sequential likelihood-ratio test, on the pairs in which exactly one policy succeeded.

Lai, "Nearly optimal sequential tests of composite hypotheses", Annals of Statistics 16, 1988.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from scipy.special import rel_entr

from kinema.evaluation.sequential.base import SequentialTest


@dataclass(frozen=True, kw_only=True)
class Lai(SequentialTest):
    """The test that a differing pair favours either side with chance one half, whatever the pairs share.

    The first is better when m KL(s/m || 1/2) >= g(c m) for s of m differing pairs in its favour: the boundary for a
    cost c per pair. c is set so that the chance of ever deciding wrongly within `n_max` differing pairs is at most the
    level: exactly, by summing over all walks. As only the sign of differences counts, pairs may share what they like.
    """

    discordant: ClassVar[bool] = True

    @cached_property
    def cost(self) -> float:
        """The cost c per pair: the largest, found by bisection of its logarithm, that keeps the level."""
        low, high = -20.0, 0.0
        for _ in range(40):
            middle = (low + high) / 2
            kept = _false_decisions(self.n_max, math.exp(middle)) <= self.level
            low, high = (middle, high) if kept else (low, middle)
        return math.exp(low)

    @cached_property
    def favoured(self) -> np.ndarray:
        """For which numbers of pairs that (first, second) alone solved the first is better, bool (n_max+1, n_max+1)."""
        wins, losses = np.indices((self.n_max + 1, self.n_max + 1))
        return decides(wins, wins + losses, self.cost)

    def favours_first(self, n: int) -> np.ndarray:
        """Return the part of `favoured` that n pairs can reach; how many agreed does not matter."""
        return self.favoured[: n + 1, : n + 1]


def decides(wins: np.ndarray, m: np.ndarray, cost: float) -> np.ndarray:
    """Return whether `wins` of `m` differing pairs decide for the side that won them, of the same shape."""
    some = np.maximum(m, 1)
    share = wins / some
    information = some * (rel_entr(share, 0.5) + rel_entr(np.maximum(1 - share, 0), 0.5))
    return (2 * wins > m) & (information >= stopping_bound(cost * some))


def stopping_bound(t: np.ndarray) -> np.ndarray:
    """Return g(t) = h(t)^2 / (2 t) for scaled time t > 0, with the approximations of h that Lai gives in eq. 2.12."""
    log_inverse = np.log(1 / np.minimum(t, 0.01))
    early = 2 * log_inverse + np.log(log_inverse) - math.log(4 * math.pi) - 3 * np.exp(-0.016 / np.sqrt(t))
    h = np.select(
        [t < 0.01, t < 0.1, t < 0.8],
        [np.sqrt(t * np.maximum(early, 0)), 0.39 - 0.015 / np.sqrt(t), np.exp(-0.69 * t - 1)],
        default=math.sqrt(2 / math.pi) / 4 * (1 / np.sqrt(t) - 5 / (48 * math.pi * t**2.5)),
    )
    return h**2 / (2 * t)


def _false_decisions(n_max: int, cost: float) -> float:
    """Return the chance that a fair walk of `n_max` differing pairs ever decides for one given side."""
    open_, decided = np.ones(1), 0.0
    for m in range(1, n_max + 1):
        ahead = np.zeros(m + 1)
        ahead[1:] = open_ / 2
        ahead[:-1] += open_ / 2
        stop = decides(np.arange(m + 1), np.full(m + 1, m), cost)
        decided += float(ahead[stop].sum())
        open_ = np.where(stop, 0.0, ahead)
    return decided
