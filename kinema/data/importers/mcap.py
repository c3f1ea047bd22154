"""MCAP recordings of ROS 2: streams with rates of their own; one file is one episode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from kinema.core.errors import DataError
from kinema.data.cards import UNKNOWN, Card, Field, VectorCard
from kinema.data.importers import _ros2
from kinema.data.importers._mcap import Recording, Stream, messages, opened
from kinema.data.importers._propose import proposed
from kinema.data.importers.base import LazyFields, RawEpisode, Source

_ACTIONS = ("action", "actions", "command", "commands")
_INSTRUCTIONS = ("instruction", "task", "prompt")


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


def _streams(path: Path) -> dict[str, Stream]:
    """Return every field of a file by name: the topic, and the part of its messages where there are several."""
    streams: dict[str, Stream] = {}
    with opened(path) as reader:
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
                streams |= _of_message(name, channel.topic, schema.name, next(messages(reader, channel.topic))[2])
            else:
                unread = Field(shape=(), dtype=schema.name)
                streams[name] = Stream(topic=channel.topic, type=schema.name, part="", field=unread)
    return streams


def _of_message(name: str, topic: str, kind: str, message: Any) -> dict[str, Stream]:
    common: dict[str, Any] = {"topic": topic, "type": kind}
    if _ros2.has_header(kind) and message.header.frame_id:
        common["frame"] = message.header.frame_id
    if kind in _ros2.IMAGES:
        try:
            shown = Field(shape=_ros2.image(message, kind, name).shape, dtype="uint8")
        except DataError:  # depth and the like: named, and refused when asked for
            shown = Field(shape=(), dtype=message.format if kind == _ros2.COMPRESSED else message.encoding)
        return {name: Stream(part="", field=shown, **common)}
    if kind == _ros2.TEXT:
        return {name: Stream(part="", field=Field(shape=(), dtype="text"), **common)}
    streams = {}
    for suffix, part in _ros2.PARTS[kind].items():
        values = _ros2.numbers(message, part)
        if len(values):
            names = tuple(message.name) if kind.endswith("JointState") else part.components
            components = names or tuple(f"{suffix or name.rsplit('/', 1)[-1]}_{i}" for i in range(len(values)))
            field = Field(shape=(len(values),), dtype=str(values.dtype))
            key = f"{name}/{suffix}".strip("/")
            streams[key] = Stream(part=suffix, field=field, components=components, **common)
    return streams


def _rate_hz(path: Path) -> float | None:
    """Return the rate of the slowest camera, or without cameras of the slowest numbers, to a whole number [Hz]."""
    with opened(path) as reader:
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
    streams: Mapping[str, Stream]
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
        recording = Recording(self.paths[index], self.streams)
        return RawEpisode(
            fields=LazyFields(self.streams, recording.values),
            own_clocks=True,
            captured_ns=LazyFields(self.streams, lambda name: recording.topic(self.streams[name].topic).captured_ns),
            origin={"file": self.paths[index].name},
        )


def _told(stream: Stream) -> dict[str, Any]:
    """Return what a message's type says of its numbers, as entries of a card."""
    part = _ros2.PARTS[stream.type][stream.part]
    units = part.units if len(part.units) == len(stream.components) else part.units * len(stream.components)
    return {"components": stream.components, "units": units, "frame": stream.frame, "rotation": part.rotation}
