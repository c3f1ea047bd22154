"""The delay between two streams that saw the same motion, by cross-correlation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kinema.core.errors import DataError

_GRID_HZ = 500.0
"""Both streams are compared on this grid; the peak is refined between its points by a parabola."""


@dataclass(frozen=True, kw_only=True)
class Delay:
    """By how much the second stream is late [s], and the correlation (up to 1) of the two once it is taken out."""

    seconds: float
    correlation: float


def estimate_delay(
    reference_s: np.ndarray,
    reference: np.ndarray,
    delayed_s: np.ndarray,
    delayed: np.ndarray,
    *,
    max_delay_s: float = 0.5,
) -> Delay:
    """Return by how much `delayed` (M,) at times (M,) lags behind `reference` (N,) at times (N,), ±`max_delay_s`.

    Both are one-dimensional measures of one motion in any units (speed, height, opening width); NaN is left out. Move
    with sudden turns: a steady or periodic motion has no single answer. Raises DataError when the streams share less
    than twice the sought range, nothing moves, the best correlation is below 0.5 or lies at the end of the range.
    """
    first, second = (_clean(*stream) for stream in ((reference_s, reference), (delayed_s, delayed)))
    start = max(first[0][0], second[0][0]) + max_delay_s
    end = min(first[0][-1], second[0][-1]) - max_delay_s
    if end - start < 2 * max_delay_s:
        raise DataError(
            f"the streams share {max(0.0, end - start + 2 * max_delay_s):.2f} s, "
            f"expected at least {4 * max_delay_s:.2f} s to find a delay of up to {max_delay_s} s"
        )
    grid = np.arange(start, end, 1 / _GRID_HZ)
    steps = round(max_delay_s * _GRID_HZ)
    lags = np.arange(-steps, steps + 1) / _GRID_HZ
    fixed = _standard(np.interp(grid, *first))
    scores = [float(np.mean(fixed * _standard(np.interp(grid + lag, *second)))) for lag in lags]
    best = int(np.argmax(scores))
    if scores[best] < 0.5 or best in (0, len(lags) - 1):
        raise DataError(
            f"no delay within ±{max_delay_s} s explains the streams: the best correlation is {scores[best]:.2f} "
            f"at {lags[best]:+.3f} s"
        )
    return Delay(seconds=float(lags[best] + _peak(*scores[best - 1 : best + 2]) / _GRID_HZ), correlation=scores[best])


def _peak(left: float, middle: float, right: float) -> float:
    """Return where, from the middle one, the parabola through three neighbouring scores is highest."""
    bend = left - 2 * middle + right
    return 0.0 if bend == 0 else 0.5 * (left - right) / bend


def _clean(time_s: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if time_s.shape != values.shape or time_s.ndim != 1:
        raise DataError(f"a stream of times {time_s.shape} and values {values.shape}, expected (N,) both")
    seen = np.isfinite(values)
    if seen.sum() < 10:
        raise DataError(f"a stream of {int(seen.sum())} values, expected at least 10")
    return time_s[seen], values[seen]


def _standard(values: np.ndarray) -> np.ndarray:
    spread = values.std()
    if spread < 1e-12:
        raise DataError("a stream that does not change says nothing about delay")
    return (values - values.mean()) / spread
