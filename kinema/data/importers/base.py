"""What every importer shares: the fields of a foreign recording, and the card that says what they mean.

An importer is one file with one function of its name, `robomimic(path) -> Source`. A source lists its fields and reads
episodes as raw arrays; a `Card` says which of them are cameras, vectors and the action, in the typed words of kinema.
What the file itself does not tell is `UNKNOWN` in the card that the source proposes, and must be filled in by a person.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from kinema.core.episode import Episode
from kinema.core.errors import DataError, SpecMismatch, nearest
from kinema.core.spec import ACTION, ActionSpec, Camera, ObservationSpec, RobotSpec, Vector

UNKNOWN = "?"
"""What a card says where the file is silent."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One array of a foreign recording: the shape and dtype of one step; `instruction` fields have dtype "text"."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, kw_only=True)
class CameraCard:
    """A camera `name` read from `field`, turned by `turned_deg` (0 or 180) to be the right way up."""

    name: str
    field: str
    turned_deg: int = 0


@dataclass(frozen=True, kw_only=True)
class VectorCard:
    """A vector `name` made of `fields`, concatenated in order, with one unit for each component and one frame."""

    name: str
    fields: tuple[str, ...]
    components: tuple[str, ...]
    units: tuple[str, ...]
    frame: str = UNKNOWN
    rotation: str | None = None


@dataclass(frozen=True, kw_only=True)
class ActionCard:
    """The action, made of `fields` concatenated in order; the rest as in `ActionSpec`. Unknown bounds are None."""

    fields: tuple[str, ...]
    components: tuple[str, ...]
    units: tuple[str, ...]
    frame: str = UNKNOWN
    kind: str = UNKNOWN
    integrator: str = UNKNOWN
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    gripper: str | None = None
    rotation: str | None = None


@dataclass(frozen=True, kw_only=True)
class Card:
    """What the fields of a foreign recording mean; `instruction` is a text, or `field:<name>` of a text field."""

    embodiment: str = UNKNOWN
    rate_hz: float | None = None
    cameras: tuple[CameraCard, ...] = ()
    vectors: tuple[VectorCard, ...] = ()
    action: ActionCard
    instruction: str = UNKNOWN

    def missing(self) -> list[str]:
        """Return what still has to be said, one line each."""
        lines = [f"{name}: not said" for name in ("embodiment", "instruction") if getattr(self, name) == UNKNOWN]
        lines += [] if self.rate_hz else ["rate_hz: not said"]
        for vector in self.vectors:
            lines += _silent(vector, f"vector {vector.name!r}")
        lines += _silent(self.action, "action")
        words = ("kind", "integrator", "gripper")
        lines += [f"action: {name} not said" for name in words if getattr(self.action, name) == UNKNOWN]
        lines += [f"action: {name} not said" for name in ("low", "high") if getattr(self.action, name) is None]
        return lines


def _silent(part: VectorCard | ActionCard, name: str) -> list[str]:
    lines = [f"{name}: {what} not said" for what in ("frame", "rotation") if getattr(part, what) == UNKNOWN]
    unsaid = [c for c, unit in zip(part.components, part.units, strict=False) if unit == UNKNOWN]
    return lines + ([f"{name}: unit of {', '.join(unsaid)} not said"] if unsaid else [])


@dataclass(frozen=True, kw_only=True)
class RawEpisode:
    """One episode as it lies in the file: field -> (T, ...) array, or one text; `captured_ns` by field where known."""

    fields: Mapping[str, np.ndarray | str]
    success: bool
    origin: Mapping[str, str | int | float] = field(default_factory=dict)
    captured_ns: Mapping[str, np.ndarray] = field(default_factory=dict)


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


def episodes(source: Source, card: Card) -> Iterator[Episode]:
    """Yield the source's episodes as `card` reads them; raises SpecMismatch or DataError naming what does not fit."""
    spec_of(source, card)
    for index in range(len(source)):
        yield _assemble(source.read(index), card, index)


def _assemble(raw: RawEpisode, card: Card, index: int) -> Episode:
    frames: dict[str, np.ndarray] = {}
    captured: dict[str, np.ndarray] = {}
    parts = {f"image.{c.name}": (c.field,) for c in card.cameras} | {f"vector.{v.name}": v.fields for v in card.vectors}
    for key, names in {**parts, ACTION: card.action.fields}.items():
        values = [np.asarray(raw.fields[name]) for name in names]
        frames[key] = _image(values[0], names[0]) if key.startswith("image.") else _vector(values, names)
        if names[0] in raw.captured_ns:
            captured[key] = raw.captured_ns[names[0]]
    for camera in card.cameras:
        if camera.turned_deg == 180:
            frames[f"image.{camera.name}"] = np.ascontiguousarray(frames[f"image.{camera.name}"][:, ::-1, ::-1])
    lengths = {key: len(values) for key, values in frames.items()}
    if len(set(lengths.values())) != 1:
        raise DataError(f"episode {index}: fields of different lengths: {lengths}")
    return Episode(
        instruction=_instruction(raw, card, index),
        frames=frames,
        success=raw.success,
        origin=dict(raw.origin),
        captured_ns=captured,
    )


def _instruction(raw: RawEpisode, card: Card, index: int) -> str:
    if not card.instruction.startswith("field:"):
        return card.instruction
    text = raw.fields[card.instruction.removeprefix("field:")]
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"episode {index}: {card.instruction} is {text!r:.80}, expected a text")
    return text


def _image(values: np.ndarray, name: str) -> np.ndarray:
    if values.dtype != np.uint8 or values.ndim != 4 or values.shape[3] != 3:
        raise DataError(f"field {name!r}: {values.dtype} {values.shape}, expected (T, Hi, Wi, 3) uint8 RGB")
    return np.ascontiguousarray(values)


def _vector(values: list[np.ndarray], names: tuple[str, ...]) -> np.ndarray:
    for name, value in zip(names, values, strict=True):
        if value.dtype.kind not in "fiub":
            raise DataError(f"field {name!r}: {value.dtype}, expected numbers")
    return np.concatenate([v.reshape(len(v), -1) for v in values], axis=1).astype(np.float32)


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
        if camera.turned_deg not in (0, 180):
            lines.append(f"camera {camera.name!r}: turned_deg {camera.turned_deg}, expected 0 or 180")
    return lines
