"""What is known of a handheld gripper before a recording: lens, finger tags, hand, delays, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from kinema.actions import poses, rotations
from kinema.core.errors import KinemaError
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.data.umi.gripper import GripperRange

HAND, GRIPPER = "hand", "gripper"


@dataclass(frozen=True, kw_only=True)
class Lens:
    """A calibrated camera as OpenCV has it: focal lengths and centre [px] of a picture of `height` x `width`.

    `distortion` is k1, k2, p1, p2, k3 of a "pinhole" camera, or k1 to k4 of a "fisheye" (Kannala and Brandt 2006).
    """

    height: int
    width: int
    focal_px: tuple[float, float]
    centre_px: tuple[float, float]
    distortion: tuple[float, ...] = ()
    model: Literal["pinhole", "fisheye"] = "pinhole"

    @property
    def matrix(self) -> np.ndarray:
        """The camera matrix (3, 3)."""
        (fx, fy), (cx, cy) = self.focal_px, self.centre_px
        return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


@dataclass(frozen=True, kw_only=True)
class FingerTags:
    """The ArUco tags on the fingers; `axis` is the direction from left to right finger in the camera's frame.

    The camera's frame is OpenCV's: x right, y down, z forward.
    """

    left: int = 0
    right: int = 1
    size_m: float = 0.016
    dictionary: str = "DICT_4X4_50"
    axis: tuple[float, float, float] = (1.0, 0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Measured delays [s]: how long after its capture an observation is stamped, how long a command takes to act.

    Streams with one clock in the camera (GoPro video and its IMU) have none between them.
    """

    camera_s: float = 0.0
    pose_s: float = 0.0
    gripper_s: float = 0.0
    action_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is bridged by interpolation (gaps up to `max_gap_s`), and beyond what an episode is refused.

    `max_jump_m` is between two neighbouring poses, `max_speed_m_s` and `max_turn_rad_s` are of the finished actions;
    a width further than `max_spike_m` from its neighbours counts as not seen.
    """

    max_gap_s: float = 0.2
    max_jump_m: float = 0.05
    max_speed_m_s: float = 2.0
    max_turn_rad_s: float = 6.0
    max_spike_m: float = 0.01
    max_spikes: float = 0.05
    min_duration_s: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Rig:
    """One gripper with its camera, and what its episodes shall be.

    The hand (where the fingers meet) stands in the camera's frame at `hand_position_m`, turned by the rotation vector
    `hand_rotation_rad`. Episodes have `rate_hz` steps a second and pictures of `image_px` x `image_px`, the middle of
    what the camera saw.
    """

    lens: Lens
    gripper: GripperRange
    hand_position_m: tuple[float, float, float]
    hand_rotation_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)
    tags: FingerTags = FingerTags()
    latency: Latency = Latency()
    limits: Limits = Limits()
    embodiment: str = "handheld gripper"
    camera: str = "wrist"
    image_px: int = 224
    rate_hz: float = 20.0

    def __post_init__(self) -> None:
        if not self.rate_hz > 0 or self.image_px < 1:
            raise KinemaError(f"rig: {self.rate_hz} steps a second of {self.image_px} px, expected more than 0 of both")

    @property
    def T_camera_hand(self) -> np.ndarray:
        """The hand's pose (4, 4) in the camera's frame."""
        return poses.pose(np.array(self.hand_position_m), rotations.exp(np.array(self.hand_rotation_rad)))

    @property
    def spec(self) -> RobotSpec:
        """What the episodes of this rig hold: picture, hand pose, opening width, and the next of the latter two.

        The world is the SLAM map of each recording, so poses of two episodes share no frame: train with
        `RelativeAction(pose="hand")`. The bounds of positions are a plausibility, not a workspace.
        """
        observation = ObservationSpec(
            cameras=(Camera(name=self.camera, height=self.image_px, width=self.image_px),),
            vectors=(
                Vector(name=HAND, components=poses.COMPONENTS, units=poses.UNITS, frame="world", rotation=poses.LAYOUT),
                Vector(name=GRIPPER, components=("width",), units=("m",), frame="hand"),
            ),
            instruction=True,
        )
        action = ActionSpec(
            components=(*poses.COMPONENTS, "width"),
            units=(*poses.UNITS, "m"),
            frame="world",
            kind="end-effector pose",
            integrator="controller",
            low=(-100.0,) * 3 + (-1.0,) * 6 + (self.gripper.closed_m,),
            high=(100.0,) * 3 + (1.0,) * 6 + (self.gripper.open_m,),
            gripper="opening width [m]",
            rotation=poses.LAYOUT,
        )
        return RobotSpec(embodiment=self.embodiment, rate_hz=self.rate_hz, observation=observation, action=action)
