"""Scale vectors and actions with statistics of the training data, which travel inside the policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kinema.core.errors import KinemaError, nearest, unknown
from kinema.core.spec import ACTION
from kinema.core.transform import Sample, Statistics, Transform

MODES: Mapping[str, tuple[str, ...]] = {
    "mean_std": ("mean", "std"),
    "min_max": ("min", "max"),
    "quantile": ("q01", "q99", "min", "max"),
    "quantile_clipped": ("q01", "q99", "min", "max"),
}
_SMALLEST = 1e-6


@dataclass(frozen=True, kw_only=True)
class Normalise(Transform):
    """`modes` maps keys to how they are scaled; `fit` fills `statistics`.

    - "mean_std": zero mean, unit deviation.
    - "min_max": to [-1, 1] (Diffusion Policy).
    - "quantile": the 1 % and 99 % quantiles to -1 and 1; the 2 % outside stay outside (openpi).
    - "quantile_clipped": the same, and what lies outside is clipped (OpenVLA).

    `keep` maps keys to the components that stay as they are, by index, negative from the end: OpenVLA's gripper is -1.
    A component that never changes in the data maps to 0, whatever comes later, and back to its constant.
    """

    modes: Mapping[str, str]
    keep: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    statistics: Statistics | None = None

    def __post_init__(self) -> None:
        for mode in self.modes.values():
            if mode not in MODES:
                raise unknown("normalisation mode", mode, MODES)
        for key in self.keep:
            if key not in self.modes:
                raise unknown("normalised key", key, self.modes)

    def fit(self, statistics: Statistics) -> Normalise:
        """Return this transform with the statistics of its keys, as float64."""
        chosen: dict[str, dict[str, np.ndarray]] = {}
        for key, mode in self.modes.items():
            if key not in statistics:
                raise KinemaError(
                    f"no statistics of {key!r}{nearest(key, statistics)}; the data has: {', '.join(statistics)}"
                )
            chosen[key] = {name: np.asarray(statistics[key][name], np.float64) for name in MODES[mode]}
            if not all(np.isfinite(value).all() for value in chosen[key].values()):
                raise KinemaError(f"normalise: statistics of {key!r} are not finite")
        fitted = replace(self, statistics=chosen)
        for key in self.modes:
            fitted._check_moving(key)
        return fitted

    def forward(self, sample: Sample) -> tuple[Sample, Any]:
        """Return the sample with its keys scaled; `action` may be absent, everything else must be there."""
        scaled = dict(sample)
        for key, mode in self.modes.items():
            if key == ACTION and key not in sample:
                continue
            if key not in sample:
                raise KinemaError(f"normalise: {key!r} is missing from the sample, which has: {', '.join(sample)}")
            value = _finite(key, sample[key])
            centre, scale, kept = self._affine(key, value.shape[-1])
            changed = (value - centre) / np.where(scale == 0.0, 1.0, scale) * (scale != 0.0)
            if mode == "quantile_clipped":
                changed = np.where(kept, changed, np.clip(changed, -1.0, 1.0))
            scaled[key] = changed.astype(np.float32)
        return scaled, None

    def inverse(self, action: np.ndarray, memo: Any) -> np.ndarray:
        """Return the action in the units of the data."""
        if ACTION not in self.modes:
            return action
        centre, scale, _ = self._affine(ACTION, action.shape[-1])
        return (_finite(ACTION, action).astype(np.float64) * scale + centre).astype(np.float32)

    def constant(self, key: str) -> np.ndarray:
        """Return which components of `key` never change in the data (D,) bool; those that are kept are none of them."""
        if self.statistics is None:
            raise KinemaError(f"normalise: no statistics for {key!r}; fit the transform on training data first")
        width = len(self.statistics[key][MODES[self.modes[key]][0]])
        return self._affine(key, width)[1] == 0.0

    def _affine(self, key: str, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return centre, scale and which stay (width,); the scale of a component that never changes is 0."""
        if self.statistics is None:
            raise KinemaError(f"normalise: no statistics for {key!r}; fit the transform on training data first")
        first, second = (self.statistics[key][name] for name in MODES[self.modes[key]][:2])
        if first.shape != (width,):
            raise KinemaError(
                f"normalise: statistics of {key!r} are for {first.shape[0]} components, the value has {width}"
            )
        kept = np.zeros(width, bool)
        for index in self.keep.get(key, ()):
            if not -width <= index < width:
                raise KinemaError(f"normalise: component {index} of {key!r} is to be kept, it has {width}")
            kept[index] = True
        if self.modes[key] == "mean_std":
            centre, scale, extent = first, second, second
        else:
            centre, scale, extent = (first + second) / 2, (second - first) / 2, second - first
        scale = np.where(extent < _smallest(first), 0.0, scale)
        return np.where(kept, 0.0, centre), np.where(kept, 1.0, scale), kept

    def _check_moving(self, key: str) -> None:
        """Raise KinemaError for a component that moves, but so seldom that its quantiles call it constant."""
        entries = self.statistics[key] if self.statistics is not None else {}
        if "q01" not in entries:
            return
        _, scale, _ = self._affine(key, len(entries["q01"]))
        seldom = np.flatnonzero((scale == 0.0) & (entries["max"] - entries["min"] >= _smallest(entries["min"])))
        if seldom.size:
            raise KinemaError(
                f"normalise: components {seldom.tolist()} of {key!r} move, but not between the quantiles q01 and q99: "
                "a policy could never move them\n"
                f"scale {key!r} by 'min_max' or 'mean_std', or leave them as they are (`keep`)"
            )


def _smallest(value: np.ndarray) -> np.ndarray:
    """Return the range below which a component around `value` counts as constant."""
    return _SMALLEST * np.maximum(1.0, np.abs(value))


def _finite(key: str, value: Any) -> np.ndarray:
    value = np.asarray(value)
    if not np.isfinite(value).all():
        raise KinemaError(f"normalise: {key!r} holds a value that is not finite")
    return value
