"""How many attempts a comparison needs, and what a given number of attempts can find.

All numbers are attempts per arm, for two independent arms of equal size. Formulas differ by a tenth and more, so every
number here goes with the name of its formula: "pooled-z", "unpooled-z" and "arcsine" approximate; "fisher", "barnard"
and "boschloo" sum over all (n + 1)^2 outcomes of the test of that name and are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

from scipy import stats

from kinema.core.errors import KinemaError, unknown
from kinema.evaluation.comparison import Alternative, check_alternative
from kinema.evaluation.intervals import CONFIDENCE, check_level
from kinema.evaluation.rejection import LARGEST, Exact, probability, rejected

Formula = Literal["pooled-z", "unpooled-z", "arcsine", "fisher", "barnard", "boschloo"]


def power(
    p_first: float,
    p_second: float,
    n: int,
    *,
    formula: Formula,
    alpha: float = 0.05,
    alternative: Alternative = "two-sided",
) -> float:
    """Return the chance that the test rejects at level `alpha`, for these true rates and `n` attempts per arm.

    With s^2 = p1 q1 + p2 q2, d the difference in the claimed direction, m the mean rate and z the normal quantile:
    "pooled-z" Phi((d sqrt(n) - z sqrt(2 m (1-m))) / s); "unpooled-z" Phi(d sqrt(n) / s - z); "arcsine"
    Phi(h sqrt(n/2) - z) with h = 2 asin sqrt p1 - 2 asin sqrt p2 (Cohen 1988, ch. 6). Exact: the sum of the chances of
    the rejected tables.
    """
    gain = _gain(p_first, p_second, alternative)
    if formula in get_args(Exact):
        return probability(rejected(n, formula=formula, alpha=alpha, alternative=alternative), p_first, p_second)
    if formula not in get_args(Formula):
        raise unknown("formula", formula, get_args(Formula))
    if n < 1:
        raise KinemaError(f"{n} attempts per arm: expected 1 or more")
    z = _quantile(alpha, alternative)
    if formula == "arcsine":
        return float(stats.norm.cdf(_arcsine_gain(p_first, p_second, gain) * math.sqrt(n / 2) - z))
    spread, pooled = _spreads(p_first, p_second)
    if spread == 0:
        return float(gain > 0)
    if formula == "unpooled-z":
        return float(stats.norm.cdf(gain * math.sqrt(n) / spread - z))
    return float(stats.norm.cdf((gain * math.sqrt(n) - z * pooled) / spread))


def trials_per_arm(
    p_first: float,
    p_second: float,
    *,
    formula: Formula,
    power: float = 0.8,
    alpha: float = 0.05,
    alternative: Alternative = "two-sided",
) -> int:
    """Return the fewest attempts per arm that find this difference with chance `power`.

    The exact power rises in a sawtooth: this is the first n that reaches it, sought from half the pooled-z number on.
    Raises KinemaError when the rates do not differ in the claimed direction, or more than 2000 would be enumerated.
    """
    check_level("power", power)
    gain = _gain(p_first, p_second, alternative)
    if gain <= 0:
        raise KinemaError(f"rates {p_first} and {p_second}: no number of attempts shows that the claim holds")
    z, z_power = _quantile(alpha, alternative), float(stats.norm.ppf(power))
    spread, pooled = _spreads(p_first, p_second)
    if formula == "arcsine":
        return math.ceil(2 * ((z + z_power) / _arcsine_gain(p_first, p_second, gain)) ** 2)
    if formula == "unpooled-z":
        return max(1, math.ceil(((z + z_power) * spread / gain) ** 2))
    approximate = max(1, math.ceil(((z * pooled + z_power * spread) / gain) ** 2))
    if formula == "pooled-z":
        return approximate
    for n in range(max(1, approximate // 2), LARGEST + 1):
        region = rejected(n, formula=formula, alpha=alpha, alternative=alternative)
        if probability(region, p_first, p_second) >= power:
            return n
    raise KinemaError(f"more than {LARGEST} attempts per arm: too many to enumerate, use formula 'pooled-z'")


def detectable_difference(
    n: int, *, formula: Formula, power: float = 0.8, alpha: float = 0.05, alternative: Alternative = "two-sided"
) -> float:
    """Return the smallest difference of rates that `n` attempts per arm find with chance `power`, to a thousandth.

    For rates on either side of one half, where differences are hardest to see: elsewhere it is smaller.
    """
    check_level("power", power)
    if formula in get_args(Exact):
        region = rejected(n, formula=formula, alpha=alpha, alternative=alternative)
        return smallest_difference(lambda high, low: probability(region, high, low), power, alternative)
    own = power_of(n, formula, alpha, alternative)
    return smallest_difference(own, power, alternative)


def power_of(n: int, formula: Formula, alpha: float, alternative: Alternative) -> Callable[[float, float], float]:
    """Return `power` as a function of the two rates alone."""
    return lambda p_first, p_second: power(p_first, p_second, n, formula=formula, alpha=alpha, alternative=alternative)


def smallest_difference(
    chance: Callable[[float, float], float], power: float, alternative: Alternative = "greater"
) -> float:
    """Return the smallest d, up to a thousandth, with chance((1 + d)/2, (1 - d)/2) >= `power`; KinemaError if none."""
    sign = -1 if alternative == "less" else 1
    low, high = 0, 1000
    if chance((1 + sign) / 2, (1 - sign) / 2) < power:
        raise KinemaError(f"too few attempts to find any difference with chance {power}")
    while high - low > 1:
        middle = (low + high) // 2
        d = sign * middle / 1000
        low, high = (low, middle) if chance((1 + d) / 2, (1 - d) / 2) >= power else (middle, high)
    return high / 1000


def _gain(p_first: float, p_second: float, alternative: Alternative) -> float:
    check_alternative(alternative)
    for p in (p_first, p_second):
        if not 0 <= p <= 1:
            raise KinemaError(f"a rate of {p}; expected a fraction from 0 to 1, not per cent")
    d = p_first - p_second
    return {"greater": d, "less": -d, "two-sided": abs(d)}[alternative]


def _arcsine_gain(p_first: float, p_second: float, gain: float) -> float:
    return math.copysign(abs(2 * math.asin(math.sqrt(p_first)) - 2 * math.asin(math.sqrt(p_second))), gain)


def _spreads(p_first: float, p_second: float) -> tuple[float, float]:
    mean = (p_first + p_second) / 2
    own = p_first * (1 - p_first) + p_second * (1 - p_second)
    return math.sqrt(own), math.sqrt(2 * mean * (1 - mean))


def _quantile(alpha: float, alternative: Alternative) -> float:
    check_level("alpha", alpha)
    return float(stats.norm.isf(alpha / 2 if alternative == "two-sided" else alpha))


def trials_for_half_width(half_width: float, *, p: float = 0.5, confidence: float = CONFIDENCE) -> int:
    """Return the fewest attempts whose interval is about p -/+ `half_width`: z^2 p (1 - p) / half_width^2."""
    check_level("half width", half_width)
    check_level("confidence", confidence)
    z = float(stats.norm.ppf((1 + confidence) / 2))
    return math.ceil(z * z * p * (1 - p) / half_width**2)


def trials_without_failure(rate: float, *, confidence: float = CONFIDENCE) -> int:
    """Return how many successes in a row, without a failure, show that the true rate is at least `rate`.

    log(1 - confidence) / log(rate), rounded up: with a lower rate such a row has a chance of at most 1 - confidence.
    """
    check_level("rate", rate)
    check_level("confidence", confidence)
    return math.ceil(math.log1p(-confidence) / math.log(rate))
