"""Success rates that carry their n and their interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from scipy import stats

from kinema.core.errors import KinemaError, unknown

CONFIDENCE = 0.95
Method = Literal["wilson", "clopper-pearson", "jeffreys"]


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

    def interval(self, confidence: float = CONFIDENCE, method: Method = "wilson") -> tuple[float, float]:
        """Return the two-sided interval (low, high) of the true rate, given k successes in n attempts.

        "wilson": the rates p with |k/n - p| <= z sqrt(p(1-p)/n) (Wilson, JASA 22, 1927); right on average over p.
        "clopper-pearson": the rates that no one-sided exact binomial test at (1 - confidence)/2 rejects (Biometrika 26,
        1934); covers at least `confidence` for every p, and is wider. "jeffreys": the Bayesian one, quantiles of the
        posterior Beta(k + 1/2, n - k + 1/2), with the end 0 at k = 0 and 1 at k = n (Brown, Cai and DasGupta 2001).
        """
        check_level("confidence", confidence)
        if method == "jeffreys":
            posterior = stats.beta(self.successes + 0.5, self.n - self.successes + 0.5)
            low, high = (float(end) for end in posterior.ppf(((1 - confidence) / 2, (1 + confidence) / 2)))
            return low if self.successes else 0.0, high if self.successes < self.n else 1.0
        if method not in ("wilson", "clopper-pearson"):
            raise unknown("interval", method, ("wilson", "clopper-pearson", "jeffreys"))
        own = "wilson" if method == "wilson" else "exact"
        ends = stats.binomtest(self.successes, self.n).proportion_ci(confidence, method=own)
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


def check_level(name: str, value: float) -> None:
    """Raise KinemaError unless `value`, a confidence, power or level called `name`, lies between 0 and 1."""
    if not 0 < value < 1:
        raise KinemaError(f"{name} {value}: expected a number between 0 and 1, such as 0.95 or 0.05")


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
