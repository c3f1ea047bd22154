"""What every importer shares: a source of raw episodes, and how a card makes typed ones of them.

An importer is one file with one function of its name, `robomimic(path) -> Source`. A source lists its fields and reads
episodes as raw arrays; a `Card` says which of them are cameras, vectors and the action, in the typed words of kinema.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast

import numpy as np

from kinema.core.episode import Episode
from kinema.core.errors import DataError, SpecMismatch, nearest
from kinema.core.spec import ACTION, ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.data.align import align
from kinema.data.cards import CameraCard, Card, Field
from kinema.data.image_stream import ImageStream


@dataclass(frozen=True, kw_only=True)
class RawEpisode:
    """One episode as it lies in the file: field -> (T, ...) array, images perhaps as a stream, or one text.

    `captured_ns` says by field, where known, when each sample was captured, `valid` which are its own and do not repeat
    the one before. `success` is None where the file does not say. With `own_clocks` each field has its own length, rate
    and `captured_ns`, and rows are made on one clock.
    """

    fields: Mapping[str, np.ndarray | ImageStream | str]
    success: bool | None = None
    own_clocks: bool = False
    origin: Mapping[str, str | int | float] = field(default_factory=dict)
    captured_ns: Mapping[str, np.ndarray] = field(default_factory=dict)
    valid: Mapping[str, np.ndarray] = field(default_factory=dict)


T = TypeVar("T")


class LazyFields(Mapping[str, T]):
    """The fields of an episode, each read by `load(name)` when asked for, so that unused images cost nothing."""

    def __init__(self, names: Iterable[str], load: Callable[[str], T]) -> None:
        self._names, self._load = tuple(names), load

    def __getitem__(self, name: str) -> T:
        if name not in self._names:
            raise KeyError(name)
        return self._load(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names  # the inherited one would read the field

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Source(ABC):
    """An opened foreign recording."""

    @property
    @abstractmethod
    def fields(self) -> Mapping[str, Field]:
        """Every field of a step, by its name in the file."""

    @property
    @abstractmethod
    def card(self) -> Card:
        """What the file says of itself, `UNKNOWN` where it is silent."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of episodes."""

    @abstractmethod
    def read(self, index: int) -> RawEpisode:
        """Return episode `index` as it lies in the file; raises DataError for one that cannot be read."""


def spec_of(source: Source, card: Card) -> RobotSpec:
    """Return the typed spec that `card` gives to `source`; raises SpecMismatch listing what is missing or unknown."""
    problems = card.missing()
    problems += [
        f"no field {name!r}{nearest(name, source.fields)}" for name in _used(card) if name not in source.fields
    ]
    if not problems:
        problems = _widths(source, card)
    if problems:
        shown = problems[:6] + ([f"... and {len(problems) - 6} more"] if len(problems) > 6 else [])
        raise SpecMismatch("the card does not say all that is needed:\n" + "\n".join(f"  {line}" for line in shown))
    cameras = []
    for camera in card.cameras:
        height, width, _ = source.fields[camera.field].shape
        cameras.append(Camera(name=camera.name, height=height, width=width))
    vectors = tuple(
        Vector(name=v.name, components=v.components, units=v.units, frame=v.frame, rotation=v.rotation)
        for v in card.vectors
    )
    a = card.action
    action = ActionSpec(
        components=a.components, units=a.units, frame=a.frame, kind=a.kind, integrator=a.integrator,
        low=a.low or (), high=a.high or (), gripper=a.gripper, rotation=a.rotation,
    )  # fmt: skip
    observation = ObservationSpec(cameras=tuple(cameras), vectors=vectors, instruction=True)
    return RobotSpec(
        embodiment=card.embodiment, rate_hz=float(card.rate_hz or 0), observation=observation, action=action
    )


def episodes(
    source: Source, card: Card, chosen: Iterable[int] | None = None, *, streamed: bool = False
) -> Iterator[Episode]:
    """Yield the source's episodes as `card` reads them, only the `chosen` ones if given, in that order.

    With `streamed` their images are an `ImageStream` where the source has one: enough to write them, and in memory
    one at a time. Raises SpecMismatch or DataError naming what does not fit.
    """
    spec_of(source, card)
    for index in range(len(source)) if chosen is None else chosen:
        raw = source.read(index)
        try:
            episode = _assemble(raw, card)
            if not streamed:
                episode = replace(episode, frames={key: np.asarray(value) for key, value in episode.frames.items()})
        except DataError as error:
            raise DataError(f"episode {index}: {error}") from error
        yield episode


def _assemble(raw: RawEpisode, card: Card) -> Episode:
    parts = {f"image.{c.name}": (c.field,) for c in card.cameras} | {f"vector.{v.name}": v.fields for v in card.vectors}
    parts[ACTION] = card.action.fields
    values = {name: _samples(_field(raw, name)) for names in parts.values() for name in names}
    stamps = {name: raw.captured_ns[name] for name in values if name in raw.captured_ns}
    flags = {name: raw.valid[name] for name in values if name in raw.valid}
    if raw.own_clocks:
        rows = align(stamps, rate_hz=float(card.rate_hz or 0), max_age_s=card.max_age_s)
        flags = {n: rows.fresh[n] & flags[n][rows.index[n]] if n in flags else rows.fresh[n] for n in values}
        values = {name: _rows(value, rows.index[name]) for name, value in values.items()}
        stamps = {name: stamps[name][rows.index[name]] for name in values}
    _check_lengths(values)
    frames = {key: _vector(values, names) for key, names in parts.items() if not key.startswith("image.")}
    # Where frames are only written, a stream does for an array: episodes(streamed=True).
    frames |= {f"image.{c.name}": cast(np.ndarray, _images(values[c.field], c)) for c in card.cameras}
    captured = {key: np.minimum.reduce([stamps[n] for n in parts[key]]) for key in frames if {*parts[key]} <= {*stamps}}
    said = {key: [flags[name] for name in parts[key] if name in flags] for key in frames}
    return Episode(
        instruction=_instruction(raw, card),
        frames=frames,
        success=_success(raw, card),
        origin=dict(raw.origin),
        captured_ns=captured,
        valid={key: np.logical_and.reduce(of_key) for key, of_key in said.items() if of_key},
    )


def _samples(value: np.ndarray | ImageStream | str) -> np.ndarray | ImageStream:
    return value if isinstance(value, ImageStream) else np.asarray(value)


def _rows(values: np.ndarray | ImageStream, index: np.ndarray) -> np.ndarray | ImageStream:
    return values.take(index) if isinstance(values, ImageStream) else values[index]


def _field(raw: RawEpisode, name: str) -> np.ndarray | ImageStream | str:
    if name not in raw.fields:
        raise DataError(f"no field {name!r}{nearest(name, raw.fields)}")
    return raw.fields[name]


def _check_lengths(values: Mapping[str, np.ndarray | ImageStream]) -> None:
    lengths = {name: len(value) if value.shape else 0 for name, value in values.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise DataError(f"fields of different lengths, or without steps: {lengths}")


def _success(raw: RawEpisode, card: Card) -> bool:
    if card.success != "file":
        return card.success == "all"
    if raw.success is None:
        raise DataError("the file does not say whether it succeeded; the card's success must be 'all' or 'none'")
    return raw.success


def _instruction(raw: RawEpisode, card: Card) -> str:
    if not card.instruction.startswith("field:"):
        return card.instruction
    text = _field(raw, card.instruction.removeprefix("field:"))
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{card.instruction} is {text!r:.80}, expected a text")
    return text


def _images(values: np.ndarray | ImageStream, camera: CameraCard) -> np.ndarray | ImageStream:
    def shown(image: np.ndarray) -> np.ndarray:
        image = image[..., ::-1, ::-1, :] if camera.turned_deg == 180 else image
        return np.ascontiguousarray(image[..., ::-1] if camera.channels == "bgr" else image)

    if isinstance(values, ImageStream):
        return values.mapped(shown)
    if values.dtype.kind == "f" and values.size and np.array_equal(values, np.clip(np.rint(values), 0, 255)):
        values = values.astype(np.uint8)  # whole numbers from 0 to 255 that the file keeps as floats
    if values.dtype != np.uint8 or values.ndim != 4 or values.shape[3] != 3:
        raise DataError(f"field {camera.field!r}: {values.dtype} {values.shape}, expected (T, Hi, Wi, 3) of 0 to 255")
    return shown(values)


def _vector(values: Mapping[str, np.ndarray | ImageStream], names: tuple[str, ...]) -> np.ndarray:
    numbers = [np.asarray(values[name]) for name in names]
    for name, column in zip(names, numbers, strict=True):
        if column.dtype.kind not in "fiub":
            raise DataError(f"field {name!r}: {column.dtype}, expected numbers")
    flat = [column.reshape(len(column), -1) for column in numbers]
    return np.concatenate(flat, axis=1).astype(np.float32)


def _used(card: Card) -> list[str]:
    used = [camera.field for camera in card.cameras] + [name for v in card.vectors for name in v.fields]
    used += card.action.fields
    return used + ([card.instruction.removeprefix("field:")] if card.instruction.startswith("field:") else [])


def _widths(source: Source, card: Card) -> list[str]:
    lines = []
    for name, part in [(f"vector {v.name!r}", v) for v in card.vectors] + [("action", card.action)]:
        width = sum(int(np.prod(source.fields[n].shape)) for n in part.fields)
        if not width == len(part.components) == len(part.units):
            lines.append(
                f"{name}: the file has {width} components, the card {len(part.components)} and {len(part.units)} units"
            )
    for camera in card.cameras:
        shape = source.fields[camera.field].shape
        if len(shape) != 3 or shape[2] != 3:
            lines.append(f"camera {camera.name!r}: field {camera.field!r} is {shape}, expected (Hi, Wi, 3)")
        for what, allowed in (("turned_deg", (0, 180)), ("channels", ("rgb", "bgr"))):
            if getattr(camera, what) not in allowed:
                given = getattr(camera, what)
                lines.append(f"camera {camera.name!r}: {what} {given!r}, expected {allowed[0]!r} or {allowed[1]!r}")
    if card.success not in ("file", "all", "none"):
        lines.append(f"success: {card.success!r}, expected 'file', 'all' or 'none'")
    return lines
