"""Actions as seen from the hand at the moment of deciding: relative end-effector poses (UMI, Chi et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kinema.actions.poses import decode_relative, encode_relative, from_vector, to_vector
from kinema.core.errors import KinemaError, nearest
from kinema.core.spec import ACTION, RobotSpec
from kinema.core.transform import Sample, Transform, check_shared

_TOLERANCE = 1e-3
"""How far a recorded 6D rotation may be from two orthonormal columns: rounding, but no other layout."""


@dataclass(frozen=True, kw_only=True)
class RelativeAction(Transform):
    """`pose` names the vector (position [m], 6D columns) that is the hand in the frame of the actions.

    The first 9 components of `action` are poses in the same layout, targets of the hand; the rest, such as a gripper
    width, stays. All steps of a chunk are taken from one base, the newest observed pose, and so are the observed
    poses themselves: the policy sees no world frame, and moving the world changes nothing. The inverse gives targets
    in the frame of the observation again.

    Must stand before `Normalise`, whose statistics must be those of the transformed samples: computed over windows,
    each through `forward` (`streamed` of the data room takes it), not over the dataset's rows of world poses.
    """

    pose: str

    @property
    def reads(self) -> tuple[str, ...]:
        """The pose."""
        return (f"vector.{self.pose}",)

    def check(self, spec: RobotSpec) -> None:
        """Raise SpecMismatch unless the pose and that of the action agree in names, units, order and frame."""
        check_shared(spec, self.reads[0], range(9))

    def forward(self, sample: Sample) -> tuple[Sample, np.ndarray]:
        """Return the sample with relative poses, and the base poses (B, 4, 4); `action` may be absent."""
        key = self.reads[0]
        if key not in sample:
            raise KinemaError(
                f"relative action: {key!r} is missing from the sample{nearest(key, sample)}\n"
                f"it has: {', '.join(sample)}"
            )
        observed = _poses(sample, key, width=9)
        base = observed[:, -1]
        changed = {**sample, key: encode_relative(base, observed).astype(np.float32)}
        if ACTION in sample:
            relative = encode_relative(base, _poses(sample, ACTION))
            changed[ACTION] = np.concatenate([relative, sample[ACTION][..., 9:]], axis=-1).astype(np.float32)
        return changed, base

    def inverse(self, action: np.ndarray, memo: Any) -> np.ndarray:
        """Return targets (B, H, A) in the frame of the observation; rotations are made proper first."""
        targets = to_vector(decode_relative(memo, action[..., :9]))
        return np.concatenate([targets, action[..., 9:]], axis=-1).astype(np.float32)


def _poses(sample: Mapping[str, Any], key: str, *, width: int | None = None) -> np.ndarray:
    """Return the poses (B, T, 4, 4) under `key`; a layout other than position and 6D columns is an error."""
    values = np.asarray(sample[key], np.float64)
    if values.ndim != 3 or values.shape[-1] < 9 or (width is not None and values.shape[-1] != width):
        expected = f"(B, T, {width})" if width else "(B, H, 9 or more)"
        raise KinemaError(f"relative action: {key!r} has shape {values.shape}, expected {expected}: position, 6D, rest")
    poses = from_vector(values[..., :9])
    error = np.abs(to_vector(poses) - values[..., :9]).max(initial=0.0)
    if error > _TOLERANCE:
        raise KinemaError(
            f"relative action: components 3 to 8 of {key!r} are not the first two columns of a rotation "
            f"(off by {error:.3g}); expected position [m], then 6D columns"
        )
    return poses
