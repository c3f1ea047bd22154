"""Vectors and actions of many robots at one width: zeros behind the components that a robot has (pi0, SmolVLA)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kinema.core.errors import KinemaError, SpecMismatch, nearest
from kinema.core.spec import ACTION, ObservationSpec, RobotSpec
from kinema.core.transform import Sample, Statistics, Transform


@dataclass(frozen=True, kw_only=True)
class Pad(Transform):
    """`widths` maps keys (`action`, `vector.*`) to how wide they become; openpi and LeRobot take 32.

    The policy learns that the added components of an action are 0, and they are cut when it acts: `own` says how many
    the robot has, and `fit` fills it. Stands after `Normalise`, so that what is added is 0 for the network.
    """

    widths: Mapping[str, int]
    own: int | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The vectors."""
        return tuple(key for key in self.widths if key != ACTION)

    def check(self, spec: RobotSpec) -> None:
        """Raise SpecMismatch when the robot lacks one of the keys or is wider than it is to become."""
        self.observed(spec.observation.select(self.reads))
        self.action_width(spec.action.width)

    def fit(self, statistics: Statistics) -> Pad:
        """Return this transform with the action's own width."""
        if ACTION not in self.widths:
            return self
        if ACTION not in statistics:
            raise KinemaError(f"pad: no statistics of {ACTION!r}; the data has: {', '.join(statistics) or 'nothing'}")
        return replace(self, own=len(statistics[ACTION]["mean"]))

    def forward(self, sample: Sample) -> tuple[Sample, Any]:
        """Return the sample with its keys (..., S) padded; `action` may be absent, everything else must be there."""
        self._check_fitted()
        padded = dict(sample)
        for key, width in self.widths.items():
            if key == ACTION and key not in sample:
                continue
            if key not in sample:
                raise KinemaError(f"pad: {key!r} is missing{nearest(key, sample)}; the sample has: {', '.join(sample)}")
            padded[key] = _padded(key, sample[key], width, 0.0)
            real = f"components.{key}"
            if real in sample:  # of robots mixed: the zeros that are added here are to be learnt
                padded[real] = _padded(real, sample[real], width, True)
        return padded, None

    def inverse(self, action: np.ndarray, memo: Any) -> np.ndarray:
        """Return the action (B, H, A) without what was added."""
        self._check_fitted()
        return action if ACTION not in self.widths else action[..., : self.own]

    def observed(self, spec: ObservationSpec) -> ObservationSpec:
        """Return `spec` with the vectors at their new widths."""
        vectors = []
        for vector in spec.vectors:
            have = len(vector.components)
            added = self.widths.get(vector.key, have) - have
            _check_width(vector.key, have, have + added)
            names = tuple(f"padding {index}" for index in range(added))
            components, units = (*vector.components, *names), (*vector.units, *("none",) * added)
            vectors.append(replace(vector, components=components, units=units))
        return replace(spec, vectors=tuple(vectors))

    def action_width(self, width: int) -> int:
        """Return how wide the action becomes."""
        wanted = self.widths.get(ACTION, width)
        _check_width(ACTION, width, wanted)
        return wanted

    def _check_fitted(self) -> None:
        if ACTION in self.widths and self.own is None:
            raise KinemaError("pad: how wide the action is by itself is not known; fit the transform on data first")


def _padded(key: str, value: Any, width: int, filler: float) -> np.ndarray:
    value = np.asarray(value)
    _check_width(key, value.shape[-1], width)
    return np.pad(value, [(0, 0)] * (value.ndim - 1) + [(0, width - value.shape[-1])], constant_values=filler)


def _check_width(key: str, have: int, want: int) -> None:
    if have > want:
        raise SpecMismatch(f"pad: {key!r} has {have} components, which do not fit into {want}")
