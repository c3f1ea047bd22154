"""Streams with rates of their own onto one row clock, by the nearest sample at or before each row.

Nothing is interpolated: a row shows samples that existed at its time, as a policy would have seen them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kinema.core.errors import DataError

MOST_ROWS = 10_000_000
"""More rows than any episode has: clocks that disagree, not a long recording."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """T rows at `time_ns` (T,) int64; per stream, `index` (T,) of the sample each shows and `fresh` (T,) bool."""

    time_ns: np.ndarray
    index: Mapping[str, np.ndarray]
    fresh: Mapping[str, np.ndarray]


def align(captured_ns: Mapping[str, np.ndarray], *, rate_hz: float, max_age_s: float) -> Rows:
    """Return rows of `rate_hz` over the time in which all streams run.

    `captured_ns` holds each stream's capture times (N,) int64 [ns], which may not go back. A row's sample is not fresh
    when it is older than `max_age_s`. Raises DataError for streams without samples, out of order, or not overlapping.
    """
    if not (rate_hz > 0 and max_age_s > 0):
        raise DataError(f"rate_hz {rate_hz} and max_age_s {max_age_s} must be above 0")
    rows = row_clock(captured_ns, rate_hz)
    index = {name: at_or_before(times, rows) for name, times in captured_ns.items()}
    limit = round(max_age_s * 1e9)
    fresh = {name: rows - captured_ns[name][index[name]] <= limit for name in captured_ns}
    return Rows(time_ns=rows, index=index, fresh=fresh)


def row_clock(captured_ns: Mapping[str, np.ndarray], rate_hz: float) -> np.ndarray:
    """Return the times (T,) int64 [ns] of rows from when the last stream begins to when the first one ends."""
    if not captured_ns:
        raise DataError("no stream to align")
    for name, times in captured_ns.items():
        _check(name, times)
    latest = max(captured_ns, key=lambda name: int(captured_ns[name][0]))
    earliest = min(captured_ns, key=lambda name: int(captured_ns[name][-1]))
    begin, end = int(captured_ns[latest][0]), int(captured_ns[earliest][-1])
    if begin > end:
        late = (begin - end) / 1e9
        raise DataError(f"{latest!r} begins {late:.3f} s after {earliest!r} ends: are their times of one clock?")
    count = int((end - begin) * rate_hz / 1e9) + 2
    if count > MOST_ROWS:
        raise DataError(f"{count} rows of {rate_hz} Hz: are the times in nanoseconds?")
    # From exact row numbers, so that rounding does not add up over a long episode.
    rows = begin + np.rint(np.arange(count) * (1e9 / rate_hz)).astype(np.int64)
    return rows[rows <= end]


def at_or_before(times_ns: np.ndarray, rows_ns: np.ndarray) -> np.ndarray:
    """Return for each row (T,) the index of the newest sample at or before it; raises DataError where there is none."""
    index = np.searchsorted(times_ns, rows_ns, side="right") - 1
    if (index < 0).any():
        row = int(np.flatnonzero(index < 0)[0])
        raise DataError(f"row {row} at {rows_ns[row]} ns is before the first sample at {times_ns[0]} ns")
    return index


def _check(name: str, times: np.ndarray) -> None:
    if times.ndim != 1 or times.dtype != np.int64 or len(times) == 0:
        raise DataError(f"stream {name!r}: times are {times.dtype} {times.shape}, expected (N,) int64 with N above 0")
    back = np.flatnonzero(times[1:] < times[:-1])
    if len(back):
        row = int(back[0])
        raise DataError(f"stream {name!r}: time goes back after sample {row}: {times[row]}, then {times[row + 1]} ns")
