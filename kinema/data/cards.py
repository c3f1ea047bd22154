"""The card that says what the fields of a foreign recording mean, in the typed words of kinema.

What the recording itself does not tell is `UNKNOWN` in the card that its importer proposes: a person must say it.
"""

from __future__ import annotations

from dataclasses import dataclass

UNKNOWN = "?"
"""What a card says where the file is silent."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One array of a foreign recording: the shape and dtype of one step; `instruction` fields have dtype "text"."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, kw_only=True)
class CameraCard:
    """A camera `name` read from `field`, turned by `turned_deg` (0 or 180) to be the right way up.

    `channels` is the order of colours in the file, "rgb" or "bgr"; images come out as RGB.
    """

    name: str
    field: str
    turned_deg: int = 0
    channels: str = "rgb"


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
    """What the fields of a foreign recording mean; `instruction` is a text, or `field:<name>` of a text field.

    `success` is "file" where the file says which episodes succeeded, else "all" or "none". Where fields have clocks of
    their own, `max_age_s` is how old a sample may be before a row that shows it is marked as not valid [s].
    """

    embodiment: str = UNKNOWN
    rate_hz: float | None = None
    cameras: tuple[CameraCard, ...] = ()
    vectors: tuple[VectorCard, ...] = ()
    action: ActionCard
    instruction: str = UNKNOWN
    success: str = "file"
    max_age_s: float = 0.1

    def missing(self) -> list[str]:
        """Return what still has to be said, one line each."""
        words = ("embodiment", "instruction", "success")
        lines = [f"{name}: not said" for name in words if getattr(self, name) == UNKNOWN]
        lines += [] if self.rate_hz else ["rate_hz: not said"]
        for camera in self.cameras:
            lines += [f"camera {camera.name!r}: channels not said"] if camera.channels == UNKNOWN else []
        for vector in self.vectors:
            lines += _silent(vector, f"vector {vector.name!r}")
        lines += _silent(self.action, "action") if self.action.fields else ["action: fields not said"]
        words = ("kind", "integrator", "gripper")
        lines += [f"action: {name} not said" for name in words if getattr(self.action, name) == UNKNOWN]
        lines += [f"action: {name} not said" for name in ("low", "high") if getattr(self.action, name) is None]
        return lines


def _silent(part: VectorCard | ActionCard, name: str) -> list[str]:
    lines = [f"{name}: {what} not said" for what in ("frame", "rotation") if getattr(part, what) == UNKNOWN]
    unsaid = [c for c, unit in zip(part.components, part.units, strict=False) if unit == UNKNOWN]
    return lines + ([f"{name}: unit of {', '.join(unsaid)} not said"] if unsaid else [])
