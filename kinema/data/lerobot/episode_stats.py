"""Statistics of one episode in the format's layout, and their merge.

Counts, means, standard deviations, minima and maxima merge exactly (Chan, Golub and LeVeque 1979). Quantiles do not:
the merged quantile is the mean of the episodes' quantiles weighted by their counts, as the format's own tools do.
`kinema.data.stats.statistics` computes exact quantiles over all rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

FeatureStats = dict[str, np.ndarray]
QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
NAMES = ("min", "max", "mean", "std", "count", *QUANTILES)
_SAMPLED_FRAMES, _SAMPLED_SIDE = 100, 150


def of_rows(values: np.ndarray) -> FeatureStats:
    """Return the statistics of `values` (N, D), each (D,) float64; `count` is (1,) int64."""
    rows = np.asarray(values, np.float64)
    quantiles = np.quantile(rows, list(QUANTILES.values()), axis=0)
    return {
        "min": rows.min(axis=0),
        "max": rows.max(axis=0),
        "mean": rows.mean(axis=0),
        "std": rows.std(axis=0),
        "count": np.array([len(rows)], np.int64),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


def of_images(frames: np.ndarray) -> FeatureStats:
    """Return the statistics (3, 1, 1) of `frames` (T, Hi, Wi, 3) uint8 scaled to 0..1; `count` is the frames looked at.

    At most 100 evenly spaced frames, thinned to at most 150 px a side: enough for a mean colour.
    """
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), _SAMPLED_FRAMES)).round().astype(int))
    step = -(-max(frames.shape[1:3]) // _SAMPLED_SIDE)
    pixels = frames[chosen, ::step, ::step].reshape(-1, 3)
    levels = np.arange(256) / 255.0
    table: dict[str, list[float]] = {name: [] for name in NAMES if name != "count"}
    for channel in range(3):
        histogram = np.bincount(pixels[:, channel], minlength=256)
        share = histogram / histogram.sum()
        mean = float(share @ levels)
        seen = np.flatnonzero(histogram)
        table["mean"].append(mean)
        table["std"].append(float(np.sqrt(share @ (levels - mean) ** 2)))
        table["min"].append(float(levels[seen[0]]))
        table["max"].append(float(levels[seen[-1]]))
        for name, level in QUANTILES.items():
            table[name].append(float(levels[min(255, int(np.searchsorted(np.cumsum(share), level)))]))
    stats = {name: np.array(column).reshape(3, 1, 1) for name, column in table.items()}
    return stats | {"count": np.array([len(chosen)], np.int64)}


def merge(total: FeatureStats | None, new: FeatureStats) -> FeatureStats:
    """Return the statistics of both parts together."""
    if total is None:
        return new
    count = total["count"] + new["count"]
    share = new["count"] / count
    shift = new["mean"] - total["mean"]
    variance = (1 - share) * total["std"] ** 2 + share * new["std"] ** 2 + share * (1 - share) * shift**2
    return {
        "min": np.minimum(total["min"], new["min"]),
        "max": np.maximum(total["max"], new["max"]),
        "mean": total["mean"] + share * shift,
        "std": np.sqrt(variance),
        "count": count,
        **{name: total[name] + share * (new[name] - total[name]) for name in QUANTILES},
    }


def to_columns(stats: Mapping[str, FeatureStats]) -> dict[str, pa.Array]:
    """Return one episode's statistics as `stats/{feature}/{stat}` columns of one row."""
    columns = {}
    for feature, entries in stats.items():
        for name in NAMES:
            value = entries[name]
            kind = pa.int64() if name == "count" else pa.float64()
            for _ in range(value.ndim):
                kind = pa.list_(kind)
            columns[f"stats/{feature}/{name}"] = pa.array([value.tolist()], type=kind)
    return columns


def from_nested(stats: Mapping[str, Mapping[str, Any]]) -> dict[str, FeatureStats]:
    """Return statistics read from JSON or parquet as arrays."""
    return {
        feature: {name: np.asarray(entries[name], np.int64 if name == "count" else np.float64) for name in NAMES}
        for feature, entries in stats.items()
    }


def to_nested(stats: Mapping[str, FeatureStats]) -> dict[str, dict[str, Any]]:
    """Return statistics as plain lists, for stats.json."""
    return {feature: {name: value.tolist() for name, value in entries.items()} for feature, entries in stats.items()}
