"""Joint targets as seen from the joints at the moment of deciding (openpi's "delta actions" of pi0)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kinema.core.errors import KinemaError, nearest
from kinema.core.spec import ACTION, RobotSpec
from kinema.core.transform import Sample, Transform, check_shared


@dataclass(frozen=True, kw_only=True)
class RelativeJoints(Transform):
    """`state` names the vector of the same components as the action, in the same units and order: joints, gripper.

    All steps of a chunk are differences to one state, the newest; so an error of one step does not reach the next. The
    components `keep`, by index, negative from the end, stay as they are, as a gripper does. Poses are no vectors to
    subtract: see `RelativeAction`. Stands before `Normalise`, whose statistics are those of the differences.
    """

    state: str
    keep: tuple[int, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """The state."""
        return (f"vector.{self.state}",)

    def check(self, spec: RobotSpec) -> None:
        """Raise SpecMismatch unless state and action agree in names, units, order and frame, but for what is kept."""
        kept = {index % spec.action.width for index in self.keep}
        check_shared(spec, self.reads[0], [i for i in range(spec.action.width) if i not in kept])

    def forward(self, sample: Sample) -> tuple[Sample, np.ndarray]:
        """Return the sample with relative actions, and what was subtracted (B, 1, A); `action` may be absent."""
        key = self.reads[0]
        if key not in sample:
            raise KinemaError(
                f"relative joints: {key!r} is missing from the sample{nearest(key, sample)}\n"
                f"it has: {', '.join(sample)}"
            )
        base = np.array(sample[key], np.float64)[:, -1:]
        width = base.shape[-1]
        if any(not -width <= index < width for index in self.keep):
            raise KinemaError(f"relative joints: components {list(self.keep)} are to be kept, {key!r} has {width}")
        base[..., list(self.keep)] = 0.0
        if ACTION not in sample:
            return sample, base
        return {**sample, ACTION: (self._checked(sample[ACTION], base) - base).astype(np.float32)}, base

    def inverse(self, action: np.ndarray, memo: Any) -> np.ndarray:
        """Return the targets (B, H, A) of the joints."""
        return (self._checked(action, memo) + memo).astype(np.float32)

    def _checked(self, action: np.ndarray, base: np.ndarray) -> np.ndarray:
        if action.ndim != 3 or action.shape[-1] != base.shape[-1]:
            raise KinemaError(
                f"relative joints: actions of shape {action.shape}, expected (B, H, {base.shape[-1]}): "
                f"the components of {self.reads[0]!r}"
            )
        return np.asarray(action, np.float64)
