"""The gripper's opening width from the distance of its two finger tags."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kinema.core.errors import DataError, KinemaError


@dataclass(frozen=True, kw_only=True)
class GripperRange:
    """Tag distances when closed and open, and the opening widths that they mean; between them the map is linear."""

    closed_tag_m: float
    open_tag_m: float
    closed_m: float = 0.0
    open_m: float = 0.08

    def __post_init__(self) -> None:
        if not self.closed_tag_m < self.open_tag_m or not self.closed_m < self.open_m:
            raise KinemaError(f"gripper range: closed must be below open, got {self}")


def calibrate(tag_distance_m: np.ndarray, *, closed_m: float, open_m: float) -> GripperRange:
    """Return the range of a recording in which the gripper closes and opens fully, resting at both ends.

    The ends are the 2nd and 98th percentile of the distances seen (NaN where a tag was not), so that a wrong detection
    does not count; less than 1 cm between them is a DataError.
    """
    seen = tag_distance_m[np.isfinite(tag_distance_m)]
    if len(seen) < 20:
        raise DataError(
            f"both finger tags are seen in {len(seen)} of {len(tag_distance_m)} frames, expected at least 20"
        )
    low, high = np.quantile(seen, (0.02, 0.98))
    if high - low < 0.01:
        raise DataError(f"the finger tags move by {1e3 * (high - low):.1f} mm only: does the gripper open and close?")
    return GripperRange(closed_tag_m=float(low), open_tag_m=float(high), closed_m=closed_m, open_m=open_m)


def widths(tag_distance_m: np.ndarray, span: GripperRange, *, margin: float = 0.1) -> np.ndarray:
    """Return opening widths [m] (N,), NaN where not seen or more than `margin` of the range outside it."""
    u = (tag_distance_m - span.closed_tag_m) / (span.open_tag_m - span.closed_tag_m)
    u = np.where((u < -margin) | (u > 1 + margin), np.nan, np.clip(u, 0.0, 1.0))
    return span.closed_m + u * (span.open_m - span.closed_m)


def spikes(width_m: np.ndarray, limit_m: float) -> np.ndarray:
    """Return where (N,) a width is further than `limit_m` from the median of the 5 around it: one wrong detection."""
    padded = np.pad(width_m, 2, constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(padded, 5)
    enough = np.isfinite(around).sum(axis=1) >= 3
    middle = np.full(len(width_m), np.nan)
    middle[enough] = np.nanmedian(around[enough], axis=1)
    return np.abs(width_m - middle) > limit_m


def resample(time_s: np.ndarray, width_m: np.ndarray, at_s: np.ndarray, *, max_gap_s: float) -> np.ndarray:
    """Return widths at `at_s` by linear interpolation between what was seen; NaN inside gaps above `max_gap_s`."""
    seen = np.isfinite(width_m)
    if not seen.any():
        return np.full(len(at_s), np.nan)
    time_s, width_m = time_s[seen], width_m[seen]
    inside = _gap_at(time_s, at_s) <= max_gap_s
    return np.where(inside, np.interp(at_s, time_s, width_m), np.nan)


def _gap_at(time_s: np.ndarray, at_s: np.ndarray) -> np.ndarray:
    """Return the distance between the two samples around each time; outside of all, to the nearest."""
    after = np.searchsorted(time_s, at_s, side="left")
    ends = np.concatenate([[-np.inf], time_s, [np.inf]])
    low, high = ends[after], ends[after + 1]
    exact = high == at_s
    gap = np.where(np.isinf(low), high - at_s, np.where(np.isinf(high), at_s - low, high - low))
    return np.where(exact, 0.0, gap)
