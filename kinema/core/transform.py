"""One list of transforms, run forwards on the way in and backwards on the way out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kinema.core.errors import SpecMismatch
from kinema.core.spec import ObservationSpec, RobotSpec

Sample = Mapping[str, Any]
Statistics = Mapping[str, Mapping[str, np.ndarray]]
"""Key of a sample -> name (mean, std, min, max, q01, q99, count ...) -> array."""


class Transform(ABC):
    """A pure function of a sample and its inverse on actions; frozen, numpy only, never changes its input."""

    @abstractmethod
    def forward(self, sample: Sample) -> tuple[Sample, Any]:
        """Return the new sample, and the memo that `inverse` needs."""

    @abstractmethod
    def inverse(self, action: np.ndarray, memo: Any) -> np.ndarray:
        """Return the action (B, H, A) as it was before `forward`."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The keys of an observation that this transform needs, beside those that the encoders read; most need none."""
        return ()

    def observed(self, spec: ObservationSpec) -> ObservationSpec:
        """Return the spec of what `forward` makes of observations of `spec`; most change no shape."""
        return spec

    def action_width(self, width: int) -> int:
        """Return how wide `forward` leaves actions of `width` components; most leave them as wide."""
        return width

    def check(self, spec: RobotSpec) -> None:
        """Raise SpecMismatch for a robot that this transform does not fit; most fit all."""

    def fit(self, statistics: Statistics) -> Transform:
        """Return this transform with what it needs from the statistics of the training data; most need nothing."""
        return self


@dataclass(frozen=True)
class Chain(Transform):
    """Transforms in order; the inverse runs them in reverse order, each with its own memo."""

    transforms: tuple[Transform, ...]

    def forward(self, sample: Sample) -> tuple[Sample, tuple[Any, ...]]:
        """Return the sample after all transforms, and one memo per transform."""
        memos = []
        for transform in self.transforms:
            sample, memo = transform.forward(sample)
            memos.append(memo)
        return sample, tuple(memos)

    def inverse(self, action: np.ndarray, memo: tuple[Any, ...]) -> np.ndarray:
        """Return the action as it was before all transforms."""
        for transform, own in zip(reversed(self.transforms), reversed(memo), strict=True):
            action = transform.inverse(action, own)
        return action

    def observed(self, spec: ObservationSpec) -> ObservationSpec:
        """Return the spec of observations after all transforms."""
        for transform in self.transforms:
            spec = transform.observed(spec)
        return spec

    def action_width(self, width: int) -> int:
        """Return how wide actions of `width` components are after all transforms."""
        for transform in self.transforms:
            width = transform.action_width(width)
        return width

    def check(self, spec: RobotSpec) -> None:
        """Raise SpecMismatch for a robot that one of the transforms does not fit."""
        for transform in self.transforms:
            transform.check(spec)

    def fit(self, statistics: Statistics) -> Chain:
        """Return the chain with every transform fitted."""
        return Chain(tuple(transform.fit(statistics) for transform in self.transforms))


def check_shared(spec: RobotSpec, key: str, indices: Iterable[int]) -> None:
    """Raise SpecMismatch unless the vector `key` and the action mean the same by these components, in one frame."""
    [vector] = spec.observation.select((key,)).vectors
    action = spec.action
    wrong = [f"frame {action.frame!r}, not {vector.frame!r}"] if action.frame != vector.frame else []
    for i in indices:
        have, want = ([*of.components[i : i + 1], *of.units[i : i + 1]] for of in (action, vector))
        if have != want:
            wrong.append(f"component {i}: {have or 'none'}, not {want or 'none'}")
    if wrong:
        raise SpecMismatch("\n".join([f"the action does not go with {key!r}, to which it is taken:", *wrong[:7]]))


class Augmentation(ABC):
    """A random change of training samples; never runs when acting, so it has no inverse."""

    @abstractmethod
    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the changed sample; the input stays as it is."""
