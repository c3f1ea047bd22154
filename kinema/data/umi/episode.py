"""One demonstration's streams, brought to one clock and cut into the steps of an episode."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kinema.actions import poses
from kinema.core.episode import Episode
from kinema.core.errors import DataError
from kinema.core.spec import ACTION
from kinema.data.umi import gripper
from kinema.data.umi.rig import GRIPPER, HAND, Rig
from kinema.data.umi.trajectory import Trajectory


@dataclass(frozen=True, kw_only=True, eq=False)
class Demonstration:
    """The streams of one demonstration, each with the times [s] at which one clock stamped it.

    `images` (N, image_px, image_px, 3) uint8 at `image_time_s` (N,), a camera trajectory, and opening widths [m]
    `width_m` (M,) at `width_time_s` (M,), NaN where the tags were not seen.
    """

    instruction: str
    name: str
    images: np.ndarray
    image_time_s: np.ndarray
    trajectory: Trajectory
    width_m: np.ndarray
    width_time_s: np.ndarray


def on_one_clock(demonstration: Demonstration, rig: Rig) -> Demonstration:
    """Return the demonstration with every time moved back to the moment of capture, and wrong widths made NaN."""
    latency, trajectory = rig.latency, demonstration.trajectory
    wrong = gripper.spikes(demonstration.width_m, rig.limits.max_spike_m)
    return replace(
        demonstration,
        image_time_s=demonstration.image_time_s - latency.camera_s,
        trajectory=replace(trajectory, time_s=trajectory.time_s - latency.pose_s),
        width_time_s=demonstration.width_time_s - latency.gripper_s,
        width_m=np.where(wrong, np.nan, demonstration.width_m),
    )


def assemble(demonstration: Demonstration, rig: Rig) -> Episode:
    """Return the episode: at each step a picture, the hand's pose and the width at that picture's moment.

    The action of a step is pose and width one period later, and `latency.action_s` later still, because a command
    takes that long to act. A step's picture is the nearest one; where none lies within half a period the nearest is
    repeated and marked as not valid. Raises DataError where a gap is too long to bridge.
    """
    captured = on_one_clock(demonstration, rig)
    step_s, chosen, near = _steps(captured, rig)
    label_s = step_s + _lead_s(rig)
    hand, target = (_hand(captured.trajectory, at_s, rig) for at_s in (step_s, label_s))
    width, next_width = (_width(captured, at_s, rig) for at_s in (step_s, label_s))
    image = f"image.{rig.camera}"
    vectors = (f"vector.{HAND}", f"vector.{GRIPPER}", ACTION)
    return Episode(
        instruction=demonstration.instruction,
        frames={
            image: demonstration.images[chosen],
            f"vector.{HAND}": hand.astype(np.float32),
            f"vector.{GRIPPER}": width.astype(np.float32),
            ACTION: np.concatenate([target, next_width], axis=1).astype(np.float32),
        },
        success=True,
        origin={"demonstration": demonstration.name},
        captured_ns={image: _ns(captured.image_time_s[chosen]), **dict.fromkeys(vectors, _ns(step_s))},
        valid={image: near},
    )


def _steps(captured: Demonstration, rig: Rig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the steps' times (K,), the pictures they show (K,), and which of those are near enough (K,)."""
    image_s, pose_s = captured.image_time_s, captured.trajectory.time_s[captured.trajectory.tracked]
    width_s = captured.width_time_s[np.isfinite(captured.width_m)]
    if not (len(image_s) and len(pose_s) and len(width_s)):
        raise DataError(
            f"{captured.name}: {len(image_s)} pictures, {len(pose_s)} tracked poses and {len(width_s)} widths seen; "
            "expected some of each"
        )
    period = 1 / rig.rate_hz
    start = max(pose_s[0], width_s[0])
    first = np.searchsorted(image_s, start)
    end = min(image_s[-1], min(pose_s[-1], width_s[-1]) - _lead_s(rig) - period / 2)
    if first == len(image_s) or image_s[first] >= end:
        raise DataError(f"{captured.name}: picture, pose and width are never there at the same time")
    grid = np.arange(image_s[first], end, period)
    after = np.clip(np.searchsorted(image_s, grid), 1, len(image_s) - 1)
    chosen = np.where(image_s[after] - grid < grid - image_s[after - 1], after, after - 1)
    near = np.abs(image_s[chosen] - grid) < period / 2
    return np.where(near, image_s[chosen], grid), chosen, near


def _hand(trajectory: Trajectory, at_s: np.ndarray, rig: Rig) -> np.ndarray:
    """Return the hand's pose vectors (K, 9) in the world, never across a gap that is too long."""
    time_s, path = trajectory.time_s[trajectory.tracked], trajectory.T_world_camera[trajectory.tracked]
    after = np.clip(np.searchsorted(time_s, at_s), 1, len(time_s) - 1)
    gap = time_s[after] - time_s[after - 1]
    if gap.max() > rig.limits.max_gap_s:
        worst = int(np.argmax(gap))
        raise DataError(
            f"no pose for {gap[worst]:.3f} s around {at_s[worst]:.3f} s, at most {rig.limits.max_gap_s} s are bridged"
        )
    return poses.to_vector(poses.resample(time_s, path, at_s) @ rig.T_camera_hand)


def _width(captured: Demonstration, at_s: np.ndarray, rig: Rig) -> np.ndarray:
    limit = rig.limits.max_gap_s
    width = gripper.resample(captured.width_time_s, captured.width_m, at_s, max_gap_s=limit)
    if np.isnan(width).any():
        when = at_s[np.argmax(np.isnan(width))]
        raise DataError(f"no gripper width around {when:.3f} s, at most {limit} s are bridged")
    return width[:, None]


def _lead_s(rig: Rig) -> float:
    return 1 / rig.rate_hz + rig.latency.action_s


def _ns(time_s: np.ndarray) -> np.ndarray:
    return np.round(time_s * 1e9).astype(np.int64)
