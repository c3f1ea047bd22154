"""One MCAP file message by message: what of it is kept, and what is read again when it is asked for.

What is in memory at once: capture times, numbers and texts of the episode, one decoded image, and the undecoded
messages of one topic in those chunks of the file that overlap in time, usually one or two.
"""

from __future__ import annotations

import contextlib
import functools
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mcap.exceptions import McapError
from mcap.reader import McapReader, make_reader
from mcap_ros2._vendor.rosidl_adapter.parser import InvalidSpecification
from mcap_ros2.decoder import DecoderFactory

from kinema.core.errors import DataError
from kinema.data.cards import UNKNOWN, Field
from kinema.data.image_stream import ImageStream
from kinema.data.importers import _ros2

_BROKEN = (
    McapError,
    InvalidSpecification,
    ValueError,
    RuntimeError,
    struct.error,
    KeyError,
    IndexError,
    AttributeError,
)
"""What the library raises for files that are truncated, damaged or not MCAP."""


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One field: a part of the messages of one topic, and what its first message tells."""

    topic: str
    type: str
    part: str
    field: Field
    components: tuple[str, ...] = ()
    frame: str = UNKNOWN


@contextlib.contextmanager
def opened(path: Path) -> Iterator[McapReader]:
    """Yield the reader of the file; whatever is wrong with it is a DataError that names it."""
    try:
        with open(path, "rb") as file:
            yield make_reader(file, validate_crcs=True)
    except DataError as error:
        raise error if str(path) in str(error) else DataError(f"{path}: {error}") from error
    except (OSError, *_BROKEN) as error:
        raise DataError(f"{path}: not a whole MCAP file of ROS 2 messages: {error or type(error).__name__}") from error


def messages(reader: McapReader, topic: str) -> Iterator[tuple[str, int, Any]]:
    """Yield (message type, log time [ns], decoded message) of one topic, in order of log time."""
    factory, summary, latest = DecoderFactory(), reader.get_summary(), 0
    # Without an index of chunks the library would sort by reading all of it into memory.
    indexed = summary is not None and bool(summary.chunk_indexes)
    for schema, channel, message in reader.iter_messages(topics=[topic], log_time_order=indexed):
        if message.log_time < latest:
            raise DataError(f"{topic}: messages are not in order of time, and the file has no index; `mcap sort` it")
        latest = message.log_time
        decode = factory.decoder_for(channel.message_encoding, schema)
        if decode is None or schema is None:
            raise DataError(f"{topic}: {channel.message_encoding!r} messages, expected cdr with ros2msg definitions")
        yield schema.name, message.log_time, decode(message.data)


@dataclass(frozen=True, kw_only=True)
class _Topic:
    """What is kept of a topic's messages: capture times (N,) int64 [ns], and by field numbers or texts; no images."""

    captured_ns: np.ndarray
    kept: Mapping[str, list[Any]]
    joints: frozenset[tuple[str, ...]]


class Recording:
    """One file; a topic is gone through once for its times and numbers, and again each time images are read."""

    def __init__(self, path: Path, streams: Mapping[str, Stream]) -> None:
        self._path, self._streams = path, streams
        self.topic = functools.cache(self._topic)

    def _topic(self, topic: str) -> _Topic:
        """Return the topic, its times those of the headers where all messages have one, else those of the log."""
        fields = {name: stream for name, stream in self._streams.items() if stream.topic == topic}
        expected = next(iter(fields.values())).type
        stamps, logged, joints = [], [], set()
        kept: dict[str, list[Any]] = {name: [] for name in fields}
        for time_ns, message in self._messages(topic, expected):
            stamps.append(_ros2.stamp_ns(message, expected))
            logged.append(time_ns)
            if expected.endswith("JointState"):
                joints.add(tuple(message.name))
            for name, stream in fields.items():
                if stream.components:
                    kept[name].append(_ros2.numbers(message, _ros2.PARTS[expected][stream.part]))
                elif expected == _ros2.TEXT:
                    kept[name].append(message.data)
        times = np.array(stamps if all(stamps) else logged, np.int64)
        return _Topic(captured_ns=times, kept=kept, joints=frozenset(joints))

    def _messages(self, topic: str, expected: str) -> Iterator[tuple[int, Any]]:
        with opened(self._path) as reader:
            for kind, time_ns, message in messages(reader, topic):
                if kind != expected:
                    raise DataError(f"{self._path}: {topic} has messages of {kind} and {expected}")
                yield time_ns, message

    def values(self, name: str) -> np.ndarray | ImageStream | str:
        """Return the field's samples (N, ...), or its one text."""
        stream = self._streams[name]
        topic = self.topic(stream.topic)
        count, kept = len(topic.captured_ns), topic.kept[name]
        if not count:
            raise DataError(f"{self._path} has no message on {stream.topic}")
        if stream.type == _ros2.TEXT:
            if len(texts := set(kept)) != 1:
                raise DataError(f"{self._path}: {len(texts)} different texts on {stream.topic}, expected one")
            return str(texts.pop())
        if stream.type in _ros2.IMAGES:
            size = (stream.field.shape or next(self._images(name, np.zeros(1, np.int64))).shape)[:2]
            read = partial(self._images, name)
            return ImageStream(name=f"{self._path}: {name}", index=np.arange(count), size=(size[0], size[1]), read=read)
        if not stream.components:
            raise DataError(f"{self._path}: {stream.topic} has messages of {stream.type}, which are not read")
        if len({len(row) for row in kept}) != 1 or len(topic.joints) > 1:
            raise DataError(f"{self._path}: {name} changes its length or the order of its joints")
        return np.stack(kept)

    def _images(self, name: str, numbers: np.ndarray) -> Iterator[np.ndarray]:
        stream, wanted = self._streams[name], iter(numbers.tolist())
        next_one = next(wanted, None)
        for number, (_, message) in enumerate(self._messages(stream.topic, stream.type)):
            if number == next_one:
                yield _ros2.image(message, stream.type, f"{self._path}: {name}, message {number}")
                next_one = next(wanted, None)
            if next_one is None:
                return
