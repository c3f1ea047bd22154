"""ROS 2 messages as rows: which numbers, text or image a message of a known type holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kinema.core.errors import DataError
from kinema.data.cards import UNKNOWN
from kinema.data.importers._images import decode_image

COMPRESSED = "sensor_msgs/msg/CompressedImage"
IMAGES = ("sensor_msgs/msg/Image", COMPRESSED)
TEXT = "std_msgs/msg/String"


@dataclass(frozen=True, kw_only=True)
class Part:
    """Numbers of a message: attributes `paths` from its root, their components and units, and the rotation layout."""

    paths: tuple[str, ...]
    components: tuple[str, ...] = ()
    units: tuple[str, ...] = (UNKNOWN,)
    rotation: str | None = None


def _vector(root: str, letters: str, unit: str, rotation: str | None = None, prefix: str = "") -> Part:
    return Part(
        paths=tuple(f"{root}.{letter}".strip(".") for letter in letters),
        components=tuple(prefix + letter for letter in letters),
        units=(unit,) * len(letters),
        rotation=rotation,
    )


def _pose(root: str) -> dict[str, Part]:
    turn = _vector(f"{root}orientation", "xyzw", "1", "quaternion xyzw", "q")
    return {"position": _vector(f"{root}position", "xyz", "m"), "orientation": turn}


def _twist(root: str) -> dict[str, Part]:
    return {"linear": _vector(f"{root}linear", "xyz", "m/s"), "angular": _vector(f"{root}angular", "xyz", "rad/s")}


def _wrench(root: str) -> dict[str, Part]:
    return {"force": _vector(f"{root}force", "xyz", "N"), "torque": _vector(f"{root}torque", "xyz", "N m")}


_ARRAYS = ("Float64MultiArray", "Float32MultiArray", "Int64MultiArray", "Int32MultiArray")
_SCALARS = ("Float64", "Float32", "Int64", "Int32", "Int16", "Int8", "UInt8", "UInt16", "UInt32", "Bool")
PARTS: Mapping[str, Mapping[str, Part]] = {
    "sensor_msgs/msg/JointState": {
        name: Part(paths=(name,), units=(unit,))
        for name, unit in (("position", UNKNOWN), ("velocity", UNKNOWN), ("effort", UNKNOWN))
    },
    "geometry_msgs/msg/Pose": _pose(""),
    "geometry_msgs/msg/PoseStamped": _pose("pose."),
    "geometry_msgs/msg/Twist": _twist(""),
    "geometry_msgs/msg/TwistStamped": _twist("twist."),
    "geometry_msgs/msg/Wrench": _wrench(""),
    "geometry_msgs/msg/WrenchStamped": _wrench("wrench."),
    "geometry_msgs/msg/PointStamped": {"": _vector("point", "xyz", "m")},
} | {f"std_msgs/msg/{name}": {"": Part(paths=("data",))} for name in _ARRAYS + _SCALARS}
"""Message type -> part of it -> what it holds. A joint's position is rad or m, as the joint is: unknown."""


def numbers(message: Any, part: Part) -> np.ndarray:
    """Return the numbers of one part of a message, as a vector."""
    values = []
    for path in part.paths:
        value = message
        for name in path.split("."):
            value = getattr(value, name)
        values.append(np.atleast_1d(np.asarray(value)))
    return np.concatenate(values)


def image(message: Any, kind: str, name: str) -> np.ndarray:
    """Return an Image or CompressedImage as (Hi, Wi, 3) uint8 RGB; raises DataError for other encodings."""
    if kind == COMPRESSED:
        if "compressedDepth" in message.format:
            raise DataError(f"{name}: format {message.format!r} is depth, expected a JPEG or PNG image")
        return decode_image(bytes(message.data), name)
    channels = {"rgb8": 3, "bgr8": 3, "mono8": 1, "rgba8": 4, "bgra8": 4}.get(message.encoding)
    if channels is None:
        raise DataError(
            f"{name}: encoding {message.encoding!r} is not read, expected rgb8, bgr8, rgba8, bgra8 or mono8"
        )
    height, width, step = message.height, message.width, message.step
    data = np.frombuffer(bytes(message.data), np.uint8)
    if data.size != height * step or step < width * channels or data.size == 0:
        raise DataError(f"{name}: {data.size} bytes for {height} rows of {step} bytes, {width} px of {channels} each")
    pixels = data.reshape(height, step)[:, : width * channels].reshape(height, width, channels)
    if channels == 1:
        return np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels[..., 2::-1] if message.encoding.startswith("bgr") else pixels[..., :3])


def has_header(kind: str) -> bool:
    """Return whether messages of this type say when and in which frame."""
    return kind.startswith("sensor_msgs/") or kind.endswith("Stamped")


def stamp_ns(message: Any, kind: str) -> int:
    """Return the time in the message's header [ns], 0 when it has none."""
    if not has_header(kind):
        return 0
    stamp = message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
