"""Whether success in simulation predicts success on the robot, over several policies tried in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy import stats

from kinema.core.errors import KinemaError, unknown
from kinema.evaluation.intervals import CONFIDENCE, check_level

Ties = Literal["simpler", "symmetric"]


@dataclass(frozen=True, kw_only=True)
class Regression:
    """The line real = intercept + slope * sim by least squares, with the interval of its slope."""

    slope: float
    intercept: float
    slope_low: float
    slope_high: float


def pearson(sim: Sequence[float], real: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """Return Pearson's r of the rates and its interval (r, low, high), by Fisher's z: tanh(atanh r -/+ z/sqrt(n - 3)).

    High r needs neither equal values nor the right order. Raises KinemaError for fewer than 4 policies.
    """
    check_level("confidence", confidence)
    own = stats.pearsonr(*_checked(sim, real, fewest=4))
    ends = own.confidence_interval(confidence)
    return float(own.statistic), float(ends.low), float(ends.high)


def spearman(sim: Sequence[float], real: Sequence[float]) -> float:
    """Return Spearman's rank correlation: Pearson's r of the ranks, ties at their mean rank."""
    return float(stats.spearmanr(*_checked(sim, real, fewest=3)).statistic)


def mean_maximum_rank_violation(sim: Sequence[float], real: Sequence[float], ties: Ties = "simpler") -> float:
    """Return MMRV in [0, 1], 0 best: the mean over policies i of the largest real gap that simulation ranks wrongly.

    mean_i max_j |R_i - R_j| v_ij for real rates R and simulated S (Li et al. 2024, arXiv 2405.05941, eq. 2).
    `ties` "simpler", as published numbers: v_ij = [(S_i > S_j) != (R_i > R_j)], which charges a tie in simulation to
    the better policy only. "symmetric": v_ij = [sign(S_i - S_j) != sign(R_i - R_j)], which charges it to both.
    """
    simulated, true = _checked(sim, real, fewest=2)
    gaps, steps = true[:, None] - true, simulated[:, None] - simulated
    if ties not in get_args(Ties):
        raise unknown("tie rule", ties, get_args(Ties))
    violated = (steps > 0) != (gaps > 0) if ties == "simpler" else np.sign(steps) != np.sign(gaps)
    return float((np.abs(gaps) * violated).max(axis=1).mean())


def regression(sim: Sequence[float], real: Sequence[float], confidence: float = CONFIDENCE) -> Regression:
    """Return the least-squares line of real on simulated rates; its slope's interval is slope -/+ t(n - 2) s.e.

    Raises KinemaError for fewer than 4 policies. The interval takes the errors as equal and normal.
    """
    check_level("confidence", confidence)
    own = _checked(sim, real, fewest=4)
    line = stats.linregress(*own)
    half = float(stats.t.ppf((1 + confidence) / 2, len(own[0]) - 2)) * float(line.stderr)
    slope = float(line.slope)
    return Regression(slope=slope, intercept=float(line.intercept), slope_low=slope - half, slope_high=slope + half)


def _checked(sim: Sequence[float], real: Sequence[float], *, fewest: int) -> tuple[np.ndarray, np.ndarray]:
    if len(sim) != len(real):
        raise KinemaError(f"{len(sim)} policies in simulation but {len(real)} on the robot")
    if len(sim) < fewest:
        raise KinemaError(f"{len(sim)} policies, expected at least {fewest}")
    arrays = np.asarray(sim, dtype=np.float64), np.asarray(real, dtype=np.float64)
    for where, rates in zip(("simulation", "the robot"), arrays, strict=True):
        if not ((rates >= 0) & (rates <= 1)).all():
            bad = rates[~((rates >= 0) & (rates <= 1))][0]
            raise KinemaError(f"a rate of {bad:g} in {where}; expected fractions from 0 to 1, not per cent")
        if fewest > 2 and np.ptp(rates) == 0:
            raise KinemaError(f"all policies have the rate {rates[0]:g} in {where}, so nothing can go with it")
    return arrays
