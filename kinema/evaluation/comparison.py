"""Whether one success rate is higher than another, from a number of attempts that was fixed before the first.

An `alternative` is the claim on trial: "greater" says that the first rate is the higher one, "less" that the second is,
"two-sided" that they differ. Choose it before looking: a one-sided p after a look at the sign is half the honest one.
Arms that tried different starts are independent: `fisher`, `barnard`, `boschloo`. Arms that tried the same starts are
`paired`: `Comparison.p_value`, which asks only the starts on which they differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy import stats

from kinema.core.errors import KinemaError, unknown
from kinema.evaluation.intervals import CONFIDENCE, Rate, check_level

Alternative = Literal["two-sided", "greater", "less"]


def check_alternative(alternative: str) -> None:
    """Raise KinemaError unless `alternative` is "two-sided", "greater" or "less"."""
    if alternative not in get_args(Alternative):
        raise unknown("alternative", alternative, get_args(Alternative))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How two policies did on the same n starts: a 2x2 table of paired successes."""

    both: int = 0
    only_first: int = 0
    only_second: int = 0
    neither: int = 0

    def plus(self, first: bool, second: bool) -> Comparison:
        """Return the table with one more pair of outcomes."""
        return Comparison(
            both=self.both + (first and second),
            only_first=self.only_first + (first and not second),
            only_second=self.only_second + (second and not first),
            neither=self.neither + (not first and not second),
        )

    @property
    def n(self) -> int:
        """The number of pairs."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def difference(self) -> float:
        """The success rate over all pairs of the first minus that of the second."""
        return (self.only_first - self.only_second) / self.n

    @property
    def p_value(self) -> float:
        """Two-sided exact McNemar p."""
        return self.mcnemar()

    def mcnemar(self, alternative: Alternative = "two-sided") -> float:
        """Return the exact McNemar p: under no difference a discordant pair favours either side with probability 1/2.

        Source: McNemar, Psychometrika 12, 1947; the exact form is the binomial test on the discordant pairs.
        """
        check_alternative(alternative)
        discordant = self.only_first + self.only_second
        return float(stats.binomtest(self.only_first, discordant, 0.5, alternative).pvalue) if discordant else 1.0

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Return the interval (low, high) of the true difference, of positive width even where all pairs agree.

        With half a pair added to each cell, d -/+ z sqrt((b + c)/n - d^2)/sqrt(n) for d = (b - c)/n, cut to [-1, 1]
        (Agresti and Min, Statistics in Medicine 24, 2005, the adjusted Wald interval).
        """
        check_level("confidence", confidence)
        n, only_first, only_second = self.n + 2, self.only_first + 0.5, self.only_second + 0.5
        d = (only_first - only_second) / n
        half = float(stats.norm.ppf((1 + confidence) / 2)) * math.sqrt(((only_first + only_second) / n - d * d) / n)
        return max(-1.0, d - half), min(1.0, d + half)

    def bootstrap(
        self, *, rng: np.random.Generator, confidence: float = CONFIDENCE, resamples: int = 10_000
    ) -> tuple[float, float]:
        """Return the paired percentile bootstrap interval of the difference: whole pairs are drawn again.

        Raises KinemaError when no pair is discordant: every resample would then be the sample (Efron, 1979).
        """
        check_level("confidence", confidence)
        if not self.only_first + self.only_second:
            raise KinemaError(f"all {self.n} pairs agree, so the bootstrap sees no spread; use Comparison.interval")
        cells = np.array([self.both, self.only_first, self.only_second, self.neither])
        drawn = rng.multinomial(self.n, cells / self.n, size=resamples)
        differences = (drawn[:, 1] - drawn[:, 2]) / self.n
        low, high = np.quantile(differences, ((1 - confidence) / 2, (1 + confidence) / 2))
        return float(low), float(high)


def paired(first: Sequence[bool], second: Sequence[bool]) -> Comparison:
    """Return the paired table of two success lists; entry i of both must be the same start."""
    if len(first) != len(second) or not first:
        raise KinemaError(f"cannot pair {len(first)} with {len(second)} episodes")
    table = Comparison()
    for one, other in zip(first, second, strict=True):
        table = table.plus(bool(one), bool(other))
    return table


def fisher(first: Rate, second: Rate, alternative: Alternative = "two-sided") -> float:
    """Return Fisher's exact p: all successes together are taken as given (Fisher 1935). Safe, and timid at small n."""
    check_alternative(alternative)
    return float(stats.fisher_exact(_columns(first, second), alternative).pvalue)


def barnard(first: Rate, second: Rate, alternative: Alternative = "two-sided") -> float:
    """Return Barnard's exact p: the largest chance, over all common rates, of a table at least as extreme (1945).

    Tables are ordered by their pooled z (Suissa and Shuster 1985). Finds more than Fisher's test at the same risk.
    """
    check_alternative(alternative)
    if first.successes + second.successes in (0, first.n + second.n):
        return 1.0
    return float(stats.barnard_exact(_columns(first, second), alternative, pooled=True, n=128).pvalue)


def boschloo(first: Rate, second: Rate, alternative: Alternative = "two-sided") -> float:
    """Return Boschloo's exact p: as Barnard's with tables ordered by Fisher's p, so never above it (Boschloo 1970).

    Two-sided: twice the smaller one-sided p, at most 1.
    """
    check_alternative(alternative)
    return float(stats.boschloo_exact(_columns(first, second), alternative, n=128).pvalue)


def difference_interval(first: Rate, second: Rate, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the interval (low, high) of the difference first - second of two independent rates.

    From the Wilson ends l, u of each: d - sqrt((p1 - l1)^2 + (u2 - p2)^2) and d + sqrt((u1 - p1)^2 + (p2 - l2)^2)
    (Newcombe, Statistics in Medicine 17, 1998, method 10).
    """
    (low_1, high_1), (low_2, high_2) = first.interval(confidence), second.interval(confidence)
    d = first.rate - second.rate
    low = d - math.hypot(first.rate - low_1, high_2 - second.rate)
    return low, d + math.hypot(high_1 - first.rate, second.rate - low_2)


def _columns(first: Rate, second: Rate) -> list[list[int]]:
    # scipy's Barnard and Boschloo hold the column sums fixed: a column is a group, a row an outcome.
    return [[first.successes, second.successes], [first.n - first.successes, second.n - second.successes]]
