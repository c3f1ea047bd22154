"""Universal Manipulation Interface (UMI) replay buffers: hand-held grippers with a camera, poses from SLAM."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from kinema.core.errors import DataError
from kinema.data.cards import UNKNOWN, ActionCard, Card, Field, VectorCard
from kinema.data.importers._propose import proposed
from kinema.data.importers._zarr import ReplayBuffer, open_replay_buffer
from kinema.data.importers.base import RawEpisode, Source

_PARTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...], str | None]] = {
    "eef_pos": (("x", "y", "z"), ("m",) * 3, None),
    "eef_rot_axis_angle": (("rx", "ry", "rz"), ("rad",) * 3, "rotation vector"),
    "gripper_width": (("width",), ("m",), None),
}
"""The arrays of one gripper: components, units, rotation."""
_POSES = ("demo_start_pose", "demo_end_pose")


def umi(path: Path) -> Source:
    """Return the source of a UMI replay buffer, `x.zarr.zip` or a directory.

    UMI stores no action: it is the pose and width of each gripper itself, as UMI's own dataset class makes it.
    """
    buffer = open_replay_buffer(path)
    robots = sorted({int(m[1]) for m in (re.fullmatch(r"robot(\d+)_eef_pos", name) for name in buffer.arrays) if m})
    for robot in robots or [0]:
        for part, (components, _, _) in _PARTS.items():
            array = buffer.arrays.get(f"robot{robot}_{part}")
            if array is None or array.shape[1:] != (len(components),):
                shape = "missing" if array is None else str(array.shape)
                raise DataError(f"{path}: data/robot{robot}_{part} is {shape}, expected (N, {len(components)})")
    return _Buffer(buffer=buffer, robots=tuple(robots))


@dataclass(frozen=True, kw_only=True)
class _Buffer(Source):
    buffer: ReplayBuffer
    robots: tuple[int, ...]

    @property
    def fields(self) -> Mapping[str, Field]:
        return self.buffer.fields

    @cached_property
    def card(self) -> Card:
        card = proposed(self.fields, embodiment="umi")
        cameras = tuple(replace(c, name=c.name.removesuffix("_rgb")) for c in card.cameras)
        return replace(
            card, cameras=cameras, vectors=tuple(_named(vector) for vector in card.vectors), action=_action(self.robots)
        )

    def __len__(self) -> int:
        return len(self.buffer.ends)

    def read(self, index: int) -> RawEpisode:
        return self.buffer.read(index)


def _named(vector: VectorCard) -> VectorCard:
    part = re.sub(r"robot\d+_", "", vector.name)
    if part in _POSES and len(vector.components) == 6:
        (position, metres, _), (turn, radians, rotation) = _PARTS["eef_pos"], _PARTS["eef_rot_axis_angle"]
        return replace(vector, components=position + turn, units=metres + radians, frame="tag", rotation=rotation)
    if part not in _PARTS:
        return vector
    components, units, rotation = _PARTS[part]
    frame = "gripper" if part == "gripper_width" else "tag"
    return replace(vector, components=components, units=units, frame=frame, rotation=rotation)


def _action(robots: tuple[int, ...]) -> ActionCard:
    prefixes = {robot: f"robot{robot}_" if len(robots) > 1 else "" for robot in robots}
    return ActionCard(
        fields=tuple(f"robot{robot}_{part}" for robot in robots for part in _PARTS),
        components=tuple(prefixes[robot] + c for robot in robots for names, _, _ in _PARTS.values() for c in names),
        units=tuple(unit for _ in robots for _, units, _ in _PARTS.values() for unit in units),
        frame="tag",
        kind="end-effector pose",
        integrator=UNKNOWN,
        gripper="width between the fingers [m]",
        rotation="rotation vector",
    )
