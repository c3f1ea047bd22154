"""Time to success: trials that ran out of time are not slow successes, they are known only to take longer."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from kinema.core.errors import KinemaError
from kinema.evaluation.intervals import CONFIDENCE, check_level


@dataclass(frozen=True, kw_only=True)
class SurvivalCurve:
    """The fraction of trials without success after `steps` [steps], and the ends of its interval, each (K,)."""

    steps: np.ndarray
    remaining: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def median(self) -> float | None:
        """The first step by which half of the trials succeeded; None where fewer than half ever did."""
        reached = np.flatnonzero(self.remaining <= 0.5 + 1e-12)
        return float(self.steps[reached[0]]) if reached.size else None

    def at(self, step: float) -> tuple[float, float, float]:
        """Return (remaining, low, high) after `step` steps; beyond the last observed step it is unknown, an error."""
        if step > self.steps[-1]:
            raise KinemaError(f"nothing is known after {self.steps[-1]:g} steps, asked for {step:g}")
        place = int(np.searchsorted(self.steps, step, side="right")) - 1
        if place < 0:
            return 1.0, 1.0, 1.0
        return float(self.remaining[place]), float(self.low[place]), float(self.high[place])


def time_to_success(
    steps: Sequence[float], success: Sequence[bool], *, confidence: float = CONFIDENCE
) -> SurvivalCurve:
    """Return the Kaplan-Meier curve of the steps until success, S(t) = prod over t_i <= t of (1 - d_i/n_i).

    `steps[i]` is when trial i succeeded, or when it was broken off without success (censored). A trial that failed for
    good before the time limit must be entered at the limit: the estimate takes it that broken-off trials would have
    gone on like the others. The interval is the pointwise log-log one with Greenwood's variance; where all have
    succeeded it is (0, 1) for want of a better (Kaplan and Meier, JASA 53, 1958; scipy.stats.ecdf). Raises KinemaError
    when no trial succeeded.
    """
    check_level("confidence", confidence)
    times, succeeded = _checked(steps, success)
    sample = stats.CensoredData.right_censored(times, ~succeeded)
    curve = stats.ecdf(sample).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # undefined where all or none remain, which is filled in below
        ends = curve.confidence_interval(confidence, method="log-log")
    remaining = np.asarray(curve.probabilities, dtype=np.float64)
    certain = (remaining >= 1) | (remaining <= 0)
    return SurvivalCurve(
        steps=np.asarray(curve.quantiles, dtype=np.float64),
        remaining=remaining,
        low=np.where(certain, np.where(remaining >= 1, 1.0, 0.0), ends.low.probabilities),
        high=np.where(certain, 1.0, ends.high.probabilities),
    )


def logrank(first: tuple[Sequence[float], Sequence[bool]], second: tuple[Sequence[float], Sequence[bool]]) -> float:
    """Return the two-sided log-rank p of two arms, each (steps, success): whether one succeeds sooner (Mantel 1966)."""
    samples = [stats.CensoredData.right_censored(times, ~ok) for times, ok in (_checked(*first), _checked(*second))]
    return float(stats.logrank(*samples).pvalue)


def _checked(steps: Sequence[float], success: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    if len(steps) != len(success):
        raise KinemaError(f"{len(steps)} times but {len(success)} outcomes")
    times, succeeded = np.asarray(steps, dtype=np.float64), np.asarray(success, dtype=bool)
    if not succeeded.any():
        raise KinemaError(f"none of {len(times)} trials succeeded, so there is no time to success")
    if not (np.isfinite(times) & (times > 0)).all():
        raise KinemaError(f"times must be positive and finite, got {times.min():g} to {times.max():g}")
    return times, succeeded
