"""Scale vectors and actions with statistics of the training data, which travel inside the policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kinema.core.errors import KinemaError, nearest, unknown
from kinema.core.spec import ACTION
from kinema.core.transform import Sample, Statistics, Transform

MODES: Mapping[str, tuple[str, str]] = {
    "mean_std": ("mean", "std"),
    "min_max": ("min", "max"),
    "quantile": ("q01", "q99"),
}
_SMALLEST = 1e-6


@dataclass(frozen=True, kw_only=True)
class Normalise(Transform):
    """`modes` maps keys to "mean_std" (zero mean, unit deviation), "min_max" or "quantile" (to [-1, 1], not clipped).

    `fit` fills `statistics`. A component that never changes in the data maps to 0 and back to its constant.
    """

    modes: Mapping[str, str]
    statistics: Statistics | None = None

    def __post_init__(self) -> None:
        for mode in self.modes.values():
            if mode not in MODES:
                raise unknown("normalisation mode", mode, MODES)

    def fit(self, statistics: Statistics) -> Normalise:
        """Return this transform with the statistics of its keys, as float64."""
        chosen: dict[str, dict[str, np.ndarray]] = {}
        for key, mode in self.modes.items():
            if key not in statistics:
                raise KinemaError(
                    f"no statistics of {key!r}{nearest(key, statistics)}; the data has: {', '.join(statistics)}"
                )
            chosen[key] = {name: np.asarray(statistics[key][name], np.float64) for name in MODES[mode]}
        return replace(self, statistics=chosen)

    def forward(self, sample: Sample) -> tuple[Sample, Any]:
        """Return the sample with its keys scaled; `action` may be absent, everything else must be there."""
        scaled = dict(sample)
        for key in self.modes:
            if key == ACTION and key not in sample:
                continue
            if key not in sample:
                raise KinemaError(f"normalise: {key!r} is missing from the sample, which has: {', '.join(sample)}")
            centre, scale = self._affine(key, np.shape(sample[key])[-1])
            divisor = np.where(scale == 0.0, 1.0, scale)
            scaled[key] = ((np.asarray(sample[key]) - centre) / divisor).astype(np.float32)
        return scaled, None

    def inverse(self, action: np.ndarray, memo: Any) -> np.ndarray:
        """Return the action in the units of the data."""
        if ACTION not in self.modes:
            return action
        centre, scale = self._affine(ACTION, action.shape[-1])
        return (action.astype(np.float64) * scale + centre).astype(np.float32)

    def _affine(self, key: str, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Return centre and scale (width,); the scale of a component that never changes is 0."""
        if self.statistics is None:
            raise KinemaError(f"normalise: no statistics for {key!r}; fit the transform on training data first")
        first, second = (self.statistics[key][name] for name in MODES[self.modes[key]])
        if first.shape != (width,):
            raise KinemaError(
                f"normalise: statistics of {key!r} are for {first.shape[0]} components, the value has {width}"
            )
        smallest = _SMALLEST * np.maximum(1.0, np.abs(first))
        if self.modes[key] == "mean_std":
            return first, np.where(second < smallest, 0.0, second)
        half = (second - first) / 2
        return first + half, np.where(2 * half < smallest, 0.0, half)
