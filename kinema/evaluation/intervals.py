"""Success rates that carry their n and their interval (Wilson, JASA 22, 1927)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scipy import stats

from kinema.core.errors import KinemaError

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Rate:
    """`successes` out of `n` independent attempts at one task."""

    successes: int
    n: int

    def __post_init__(self) -> None:
        if self.n < 1 or not 0 <= self.successes <= self.n:
            raise KinemaError(f"not a rate: {self.successes} successes out of {self.n}")

    @property
    def rate(self) -> float:
        """The fraction of successes."""
        return self.successes / self.n

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Return the two-sided Wilson score interval (low, high)."""
        ends = stats.binomtest(self.successes, self.n).proportion_ci(confidence, method="wilson")
        return float(ends.low), float(ends.high)

    def __str__(self) -> str:
        return f"{self.successes}/{self.n} = {_with_interval(self.rate, self.interval())}"


@dataclass(frozen=True)
class MeanRate:
    """The unweighted mean of the rates of several tasks: every task counts the same, however often it was tried."""

    rates: tuple[Rate, ...]

    def __post_init__(self) -> None:
        if not self.rates:
            raise KinemaError("the mean of no rates")

    @property
    def rate(self) -> float:
        """The mean of the task rates."""
        return math.fsum(rate.rate for rate in self.rates) / len(self.rates)

    @property
    def successes(self) -> int:
        """All successes together."""
        return sum(rate.successes for rate in self.rates)

    @property
    def n(self) -> int:
        """All attempts together."""
        return sum(rate.n for rate in self.rates)

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Return the Wilson interval of the mean rate at K·min(n_k) attempts, for these K tasks (not for new ones).

        With equal n_k this is the pooled Wilson interval. It errs to the wide side: the variance of the mean,
        Σ p_k(1−p_k)/n_k / K², is at most p̄(1−p̄)/(K·min n_k), because p(1−p) is concave. No resampling, so no seed,
        and no interval of width zero when every attempt succeeds.
        """
        return _wilson(self.rate, len(self.rates) * min(rate.n for rate in self.rates), confidence)

    def __str__(self) -> str:
        text = _with_interval(self.rate, self.interval())
        return f"{text} mean of {len(self.rates)} task{'s' * (len(self.rates) > 1)} ({self.successes}/{self.n})"


def _wilson(p: float, n: int, confidence: float) -> tuple[float, float]:
    z = float(stats.norm.ppf((1 + confidence) / 2))
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (0.0 if p == 0 else max(0.0, centre - half)), (1.0 if p == 1 else min(1.0, centre + half))


def percent(fraction: float) -> str:
    """Return `fraction` in whole per cent; only an exact 0 or 1 reads "0" or "100" (999/1000 reads "99.9")."""
    for decimals in (0, 1):
        text = f"{100 * fraction:.{decimals}f}"
        if float(text) not in (0.0, 100.0) or fraction in (0.0, 1.0):
            return text
    return "<0.1" if fraction < 0.5 else ">99.9"


def _with_interval(rate: float, interval: tuple[float, float]) -> str:
    return f"{percent(rate)} % [{percent(interval[0])}, {percent(interval[1])}]"


def rate_entry(rate: Rate | MeanRate) -> Mapping[str, Any]:
    """Return the JSON entry of a rate: rate, successes, n, and the ends of its 95 % interval."""
    low, high = rate.interval()
    return {"rate": rate.rate, "successes": rate.successes, "n": rate.n, "low": low, "high": high}
