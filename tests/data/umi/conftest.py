"""A rig whose numbers are those of UMI's gripper, and demonstrations of known motions."""

from __future__ import annotations

import pytest

from kinema.data.umi.gripper import GripperRange
from kinema.data.umi.rig import Latency, Lens, Rig


@pytest.fixture(scope="session")
def rig() -> Rig:
    return Rig(
        lens=Lens(height=480, width=640, focal_px=(300.0, 300.0), centre_px=(319.5, 239.5)),
        gripper=GripperRange(closed_tag_m=0.05, open_tag_m=0.13, closed_m=0.0, open_m=0.08),
        hand_position_m=(0.0, 0.086, 0.22),
        hand_rotation_rad=(0.1, 0.0, 0.0),
        latency=Latency(camera_s=0.101, pose_s=0.013, gripper_s=0.101, action_s=0.0),
        image_px=16,
    )
