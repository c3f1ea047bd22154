"""Statistics of a dataset's vectors and actions: exact at once, or streamed in chunks that merge.

Count, mean, deviation, minimum and maximum of chunks merge as Chan, Golub and LeVeque (1979). Streamed quantiles come
from a histogram over float32 bit patterns: sign, exponent and the first 11 bits of the mantissa name a bucket whose
middle is within a relative 2^-12 of everything in it. Merging adds whole numbers, in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kinema.core.errors import KinemaError
from kinema.core.spec import ACTION
from kinema.core.transform import Statistics
from kinema.data.lerobot.episode_stats import QUANTILES, of_rows
from kinema.data.lerobot.layout import widths
from kinema.data.lerobot.reader import Dataset
from kinema.data.windows import MASK, Samples, check_episodes

_DROPPED_BITS = np.uint32(12)
_SIGN = np.uint32(1 << 31)
_ZERO = _SIGN >> _DROPPED_BITS
_CHUNK = 4096


def statistics(dataset: Dataset, episodes: Sequence[int] | None = None) -> Statistics:
    """Return mean, std, min, max, q01, q10, q50, q90, q99 (D,) and count (1,) per vector and action, all float64.

    Over all rows of the chosen episodes (all when None); std is the population's, quantiles interpolate linearly.
    A constant component has std 0; what to do about that is the normaliser's decision.
    """
    records = [dataset.episodes[index] for index in check_episodes(dataset, episodes)]
    rows = np.concatenate([np.arange(record.start, record.start + record.length) for record in records])
    table = {key: of_rows(dataset.column(key)[rows]) for key in widths(dataset.spec)}
    return {key: {name: value.astype(np.float64) for name, value in entry.items()} for key, entry in table.items()}


def streamed(
    windows: Samples,
    transform: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
    *,
    chunk: int = _CHUNK,
) -> Statistics:
    """Return the same table over windows, `chunk` at a time, of what `transform` makes of them.

    This is what a normaliser after relative actions needs: `transform` maps a sample to a sample, such as
    `lambda sample: relative.forward(sample)[0]`. Steps of the action beyond an episode's end (`mask` False) do not
    count. Of each vector every observed step counts, as often as the policy sees it: with T observed steps a row counts
    in up to T windows, and an episode's first step also where it is repeated before the episode's beginning.
    Quantiles are within a relative 2^-12 of the exact ones.
    """
    found: dict[str, RunningStatistics] = {}
    for start in range(0, len(windows), chunk):
        sample: Mapping[str, Any] = windows.batch(np.arange(start, min(start + chunk, len(windows))))
        sample = sample if transform is None else transform(sample)
        for key, value in sample.items():
            if key == ACTION or key.startswith("vector."):
                rows = value[sample[MASK]] if key == ACTION else value.reshape(-1, value.shape[-1])
                found.setdefault(key, RunningStatistics(rows.shape[-1])).add(rows)
    if not found:
        raise KinemaError("no windows, or no vectors and actions in them: nothing to count")
    return {key: running.result() for key, running in found.items()}


class RunningStatistics:
    """Statistics of rows (N, D) that arrive in chunks, in any order, here or elsewhere; values count as float32."""

    def __init__(self, width: int) -> None:
        self.width, self.count = width, 0
        self._mean, self._squares = np.zeros(width), np.zeros(width)
        self._min, self._max = np.full(width, np.inf), np.full(width, -np.inf)
        self._buckets: list[tuple[np.ndarray, np.ndarray]] = [(np.empty(0, np.uint32), np.empty(0, np.int64))] * width

    def add(self, rows: np.ndarray) -> None:
        """Count `rows` (N, D); raises KinemaError for another width or values that are not finite in float32."""
        values = np.asarray(rows, np.float32)
        if values.ndim != 2 or values.shape[1] != self.width:
            raise KinemaError(f"statistics of width {self.width}: rows of shape {values.shape}")
        if not np.isfinite(values).all():
            raise KinemaError("statistics: a value is not finite")
        if not len(values):
            return
        exact = values.astype(np.float64)
        low, high = exact.min(axis=0), exact.max(axis=0)
        # The mean of equal numbers need not be that number in floating point, and then their deviation is not 0.
        mean = np.where(low == high, low, exact.mean(axis=0))
        squares = np.where(low == high, 0.0, ((exact - mean) ** 2).sum(axis=0))
        buckets = [np.unique(_bucket(column), return_counts=True) for column in values.T]
        self._join(len(values), mean, squares, low, high, buckets)

    def merge(self, other: RunningStatistics) -> None:
        """Count everything that `other` counted too."""
        if other.width != self.width:
            raise KinemaError(f"statistics of width {self.width} cannot take in those of width {other.width}")
        if other.count:
            self._join(other.count, other._mean, other._squares, other._min, other._max, other._buckets)

    def result(self) -> dict[str, np.ndarray]:
        """Return mean, std, min, max, the quantiles (D,) and count (1,), float64; KinemaError when nothing came."""
        if self.count == 0:
            raise KinemaError("statistics of no rows")
        table = {
            "min": self._min.copy(),
            "max": self._max.copy(),
            "mean": self._mean.copy(),
            "std": np.sqrt(self._squares / self.count),
            "count": np.array([self.count], np.float64),
        }
        for name, level in QUANTILES.items():
            table[name] = np.array([self._quantile(column, level) for column in range(self.width)])
        return table

    def _join(
        self,
        count: int,
        mean: np.ndarray,
        squares: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        buckets: Sequence[tuple[np.ndarray, np.ndarray]],
    ) -> None:
        total = self.count + count
        shift = mean - self._mean
        self._squares = self._squares + squares + shift**2 * (self.count * count / total)
        self._mean = self._mean + shift * (count / total)
        self.count = total
        self._min, self._max = np.minimum(self._min, low), np.maximum(self._max, high)
        self._buckets = [_added(mine, theirs) for mine, theirs in zip(self._buckets, buckets, strict=True)]

    def _quantile(self, column: int, level: float) -> float:
        keys, counts = self._buckets[column]
        place = level * (self.count - 1)
        below = int(place)
        ranks = np.array([below, min(below + 1, self.count - 1)])
        low, high = _middle(keys[np.searchsorted(np.cumsum(counts), ranks, side="right")])
        value = low + (place - below) * (high - low)
        return float(np.clip(value, self._min[column], self._max[column]))


def _bucket(values: np.ndarray) -> np.ndarray:
    """Return the bucket of each float32, uint32, in the order of the values; -0 counts as 0."""
    bits = (values + np.float32(0)).view(np.uint32)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN) >> _DROPPED_BITS


def _middle(buckets: np.ndarray) -> np.ndarray:
    """Return the value in the middle of each bucket, float64; that around zero stands for zero itself."""
    ordered = (buckets.astype(np.uint32) << _DROPPED_BITS) | np.uint32(1 << 11)
    bits = np.where(ordered & _SIGN, ordered & ~_SIGN, ~ordered).astype(np.uint32)
    return np.where(buckets == _ZERO, 0.0, bits.view(np.float32).astype(np.float64))


def _added(mine: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    keys, inverse = np.unique(np.concatenate([mine[0], theirs[0]]), return_inverse=True)
    counts = np.zeros(len(keys), np.int64)
    np.add.at(counts, inverse.reshape(-1), np.concatenate([mine[1], theirs[1]]))
    return keys, counts
