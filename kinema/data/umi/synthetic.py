"""Demonstrations with a known truth: an analytic path, and streams of it at their own rates and delays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kinema.actions import poses, rotations
from kinema.data.umi.episode import Demonstration
from kinema.data.umi.rig import Latency
from kinema.data.umi.trajectory import Trajectory


@dataclass(frozen=True, kw_only=True)
class Motion:
    """An analytic motion of the camera and the gripper, smooth and different for every seed; time in seconds."""

    seed: int = 0

    def pose(self, time_s: np.ndarray) -> np.ndarray:
        """Return T_world_camera (N, 4, 4): up to about 0.4 m/s and 1.5 rad/s, below 1 Hz."""
        values = self._waves(time_s, 6)
        return poses.pose(0.15 * values[:, :3], rotations.exp(0.5 * values[:, 3:]))

    def width(self, time_s: np.ndarray) -> np.ndarray:
        """Return the opening width (N,) between 0 and 0.08 m."""
        return 0.04 + 0.04 * np.clip(self._waves(time_s, 7)[:, 6], -1.0, 1.0)

    def _waves(self, time_s: np.ndarray, count: int) -> np.ndarray:
        rng = np.random.default_rng(self.seed)
        frequency, phase = rng.uniform(0.1, 0.45, (7, 3)), rng.uniform(0, 2 * np.pi, (7, 3))
        angle = 2 * np.pi * frequency[:count] * np.asarray(time_s)[:, None, None] + phase[:count]
        return np.sin(angle).mean(axis=-1)


def demonstrate(
    motion: Motion,
    *,
    duration_s: float = 8.0,
    camera_hz: float = 60.0,
    pose_hz: float = 200.0,
    latency: Latency | None = None,
    image_px: int = 224,
    jitter_s: float = 0.0,
    instruction: str = "wave the gripper",
) -> Demonstration:
    """Return the streams of `motion` as a clock would stamp them: each its `latency` late.

    Frames are taken up to `jitter_s` early or late. A picture shows its own moment: its brightness is the milliseconds
    modulo 256, so that a wrong one can be seen.
    """
    latency = latency or Latency()
    rng = np.random.default_rng(motion.seed + 1)
    frame_s = np.arange(0.0, duration_s, 1 / camera_hz)
    frame_s = frame_s + rng.uniform(-jitter_s, jitter_s, len(frame_s))
    pose_s = np.arange(0.0, duration_s, 1 / pose_hz)
    brightness = (np.round(1e3 * frame_s).astype(np.int64) % 256).astype(np.uint8)
    images = np.broadcast_to(brightness[:, None, None, None], (len(frame_s), image_px, image_px, 3))
    trajectory = Trajectory(
        time_s=pose_s + latency.pose_s, T_world_camera=motion.pose(pose_s), tracked=np.ones(len(pose_s), bool)
    )
    return Demonstration(
        instruction=instruction,
        name=f"synthetic-{motion.seed}",
        images=images,
        image_time_s=frame_s + latency.camera_s,
        trajectory=trajectory,
        width_m=motion.width(frame_s),
        width_time_s=frame_s + latency.gripper_s,
    )
