"""MCAP recordings of ROS 2: streams with rates of their own; one file is one episode."""

from __future__ import annotations

import contextlib
import functools
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from mcap.exceptions import McapError
from mcap.reader import McapReader, make_reader
from mcap_ros2._vendor.rosidl_adapter.parser import InvalidSpecification
from mcap_ros2.decoder import DecoderFactory

from kinema.core.errors import DataError
from kinema.data.cards import UNKNOWN, Card, Field, VectorCard
from kinema.data.importers import _ros2
from kinema.data.importers._images import stack_images
from kinema.data.importers._propose import proposed
from kinema.data.importers.base import LazyFields, RawEpisode, Source

_ACTIONS = ("action", "actions", "command", "commands")
_INSTRUCTIONS = ("instruction", "task", "prompt")
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
class _Stream:
    """One field: a part of the messages of one topic, and what its first message tells."""

    topic: str
    type: str
    part: str
    field: Field
    components: tuple[str, ...] = ()
    frame: str = UNKNOWN


def mcap(path: Path) -> Source:
    """Return the source of one .mcap file, or of a directory of them or of their rosbag2 directories."""
    paths: tuple[Path, ...] = (path,)
    if path.is_dir():
        paths = tuple(sorted(path.glob("*.mcap")) or sorted(path.glob("*/*.mcap")))
        folders = [p.parent for p in paths]
        split = [p for p in paths if (p.parent / "metadata.yaml").is_file() and folders.count(p.parent) > 1]
        if split:
            raise DataError(f"{split[0].parent} is one recording in several files; merge them with `ros2 bag convert`")
    if not paths:
        raise DataError(f"{path} holds no .mcap file")
    return _Recordings(paths=paths, streams=_streams(paths[0]), rate_hz=_rate_hz(paths[0]))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[McapReader]:
    try:
        with open(path, "rb") as file:
            yield make_reader(file, validate_crcs=True)
    except DataError as error:
        raise error if str(path) in str(error) else DataError(f"{path}: {error}") from error
    except (OSError, *_BROKEN) as error:
        raise DataError(f"{path}: not a whole MCAP file of ROS 2 messages: {error or type(error).__name__}") from error


def _messages(reader: McapReader, topic: str) -> Iterator[tuple[str, int, Any]]:
    """Yield (message type, log time [ns], decoded message) of one topic, in order of time."""
    factory = DecoderFactory()
    for schema, channel, message in reader.iter_messages(topics=[topic]):
        decode = factory.decoder_for(channel.message_encoding, schema)
        if decode is None or schema is None:
            raise DataError(f"{topic}: {channel.message_encoding!r} messages, expected cdr with ros2msg definitions")
        yield schema.name, message.log_time, decode(message.data)


def _streams(path: Path) -> dict[str, _Stream]:
    """Return every field of a file by name: the topic, and the part of its messages where there are several."""
    streams: dict[str, _Stream] = {}
    with _opened(path) as reader:
        summary = reader.get_summary()
        if summary is None or summary.statistics is None:
            raise DataError("it has no summary, so it was not closed; repair it with `mcap recover`")
        for channel in summary.channels.values():
            schema = summary.schemas.get(channel.schema_id)
            count = summary.statistics.channel_message_counts.get(channel.id, 0)
            if count == 0 or schema is None:
                continue
            name = channel.topic.strip("/")
            if schema.name in (*_ros2.IMAGES, _ros2.TEXT, *_ros2.PARTS):
                streams |= _of_message(name, channel.topic, schema.name, next(_messages(reader, channel.topic))[2])
            else:
                unread = Field(shape=(), dtype=schema.name)
                streams[name] = _Stream(topic=channel.topic, type=schema.name, part="", field=unread)
    return streams


def _of_message(name: str, topic: str, kind: str, message: Any) -> dict[str, _Stream]:
    common: dict[str, Any] = {"topic": topic, "type": kind}
    if _ros2.has_header(kind) and message.header.frame_id:
        common["frame"] = message.header.frame_id
    if kind in _ros2.IMAGES:
        try:
            shown = Field(shape=_ros2.image(message, kind, name).shape, dtype="uint8")
        except DataError:  # depth and the like: named, and refused when asked for
            shown = Field(shape=(), dtype=message.format if kind == _ros2.COMPRESSED else message.encoding)
        return {name: _Stream(part="", field=shown, **common)}
    if kind == _ros2.TEXT:
        return {name: _Stream(part="", field=Field(shape=(), dtype="text"), **common)}
    streams = {}
    for suffix, part in _ros2.PARTS[kind].items():
        values = _ros2.numbers(message, part)
        if len(values):
            names = tuple(message.name) if kind.endswith("JointState") else part.components
            components = names or tuple(f"{suffix or name.rsplit('/', 1)[-1]}_{i}" for i in range(len(values)))
            field = Field(shape=(len(values),), dtype=str(values.dtype))
            key = f"{name}/{suffix}".strip("/")
            streams[key] = _Stream(part=suffix, field=field, components=components, **common)
    return streams


def _rate_hz(path: Path) -> float | None:
    """Return the rate of the slowest camera, or without cameras of the slowest numbers, to a whole number [Hz]."""
    with _opened(path) as reader:
        summary = reader.get_summary()
        if summary is None or summary.statistics is None:
            return None
        found: dict[bool, list[float]] = {True: [], False: []}
        seconds = (summary.statistics.message_end_time - summary.statistics.message_start_time) / 1e9
        for channel in summary.channels.values():
            schema = summary.schemas.get(channel.schema_id)
            count = summary.statistics.channel_message_counts.get(channel.id, 0)
            if schema is not None and schema.name in (*_ros2.IMAGES, *_ros2.PARTS) and count > 1 and seconds > 0:
                found[schema.name in _ros2.IMAGES].append(count / seconds)
    rates = found[True] or found[False]
    return float(max(1, round(min(rates)))) if rates else None


@dataclass(frozen=True, kw_only=True)
class _Recordings(Source):
    paths: tuple[Path, ...]
    streams: Mapping[str, _Stream]
    rate_hz: float | None

    @cached_property
    def fields(self) -> Mapping[str, Field]:
        return {name: stream.field for name, stream in self.streams.items()}

    @cached_property
    def card(self) -> Card:
        read = {n: f for n, f in self.fields.items() if len(f.shape) in (1, 3) or f.dtype == "text"}
        texts = [n for n, f in read.items() if f.dtype == "text" and n.rsplit("/", 1)[-1] in _INSTRUCTIONS]
        sent = [n for n, s in self.streams.items() if s.components and set(n.split("/")) & set(_ACTIONS)]
        card = proposed(read, sent if len(sent) == 1 else ())
        action = card.action
        if action.fields:
            stream = self.streams[action.fields[0]]
            action = replace(action, **_told(stream))
        return replace(
            card,
            rate_hz=self.rate_hz,
            instruction=f"field:{texts[0]}" if len(texts) == 1 else UNKNOWN,
            vectors=tuple(self._named(vector) for vector in card.vectors),
            action=action,
        )

    def _named(self, vector: VectorCard) -> VectorCard:
        return replace(vector, **_told(self.streams[vector.fields[0]]))

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> RawEpisode:
        recording = _Recording(self.paths[index], self.streams)
        return RawEpisode(
            fields=LazyFields(self.streams, recording.values),
            own_clocks=True,
            captured_ns=LazyFields(self.streams, lambda name: recording.topic(self.streams[name].topic)[0]),
            origin={"file": self.paths[index].name},
        )


def _told(stream: _Stream) -> dict[str, Any]:
    """Return what a message's type says of its numbers, as entries of a card."""
    part = _ros2.PARTS[stream.type][stream.part]
    units = part.units if len(part.units) == len(stream.components) else part.units * len(stream.components)
    return {"components": stream.components, "units": units, "frame": stream.frame, "rotation": part.rotation}


class _Recording:
    """One file; a topic is decoded once, when it is first asked for."""

    def __init__(self, path: Path, streams: Mapping[str, _Stream]) -> None:
        self._path, self._streams = path, streams
        self.topic = functools.cache(self._topic)

    def _topic(self, topic: str) -> tuple[np.ndarray, list[Any]]:
        """Return capture times (N,) int64 [ns] and messages: the header's time where all have one, else the log's."""
        expected = next(stream.type for stream in self._streams.values() if stream.topic == topic)
        with _opened(self._path) as reader:
            found = list(_messages(reader, topic))
        for kind, _, _ in found:
            if kind != expected:
                raise DataError(f"{self._path}: {topic} has messages of {kind} and {expected}")
        stamps = [_ros2.stamp_ns(message, expected) for _, _, message in found]
        times = stamps if all(stamps) else [logged for _, logged, _ in found]
        return np.array(times, np.int64), [message for _, _, message in found]

    def values(self, name: str) -> np.ndarray | str:
        """Return the field's samples (N, ...), or its one text."""
        stream = self._streams[name]
        messages = self.topic(stream.topic)[1]
        if not messages:
            raise DataError(f"{self._path} has no message on {stream.topic}")
        if stream.field.dtype == "text":
            texts = {message.data for message in messages}
            if len(texts) != 1:
                raise DataError(f"{self._path}: {len(texts)} different texts on {stream.topic}, expected one")
            return str(texts.pop())
        if stream.type in _ros2.IMAGES:
            return stack_images([_ros2.image(message, stream.type, name) for message in messages], name)
        if not stream.components:
            raise DataError(f"{self._path}: {stream.topic} has messages of {stream.type}, which are not read")
        rows = [_ros2.numbers(message, _ros2.PARTS[stream.type][stream.part]) for message in messages]
        joints = {tuple(message.name) for message in messages} if stream.type.endswith("JointState") else set()
        if len({len(row) for row in rows}) != 1 or len(joints) > 1:
            raise DataError(f"{self._path}: {name} changes its length or the order of its joints")
        return np.stack(rows)
