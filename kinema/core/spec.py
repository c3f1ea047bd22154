"""What a robot, a dataset and a policy say about their observations and actions, so that a misfit is an error.

Observations and training samples are flat mappings: `image.<camera>`, `vector.<name>` and `instruction`; actions are
`action`. Units, frames, rates and conventions are part of the type, never a comment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from kinema.core.errors import SpecMismatch, nearest

INSTRUCTION = "instruction"
ACTION = "action"
EMBODIMENT = "embodiment"


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A camera that delivers uint8 RGB images of shape (height, width, 3), right way up."""

    name: str
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise SpecMismatch(f"camera {self.name!r}: {self.height}x{self.width} px; expected at least 1x1")

    @property
    def key(self) -> str:
        """The observation's key for this camera."""
        return f"image.{self.name}"


@dataclass(frozen=True, kw_only=True)
class Vector:
    """A named float32 vector: one unit per component, all in one frame."""

    name: str
    components: tuple[str, ...]
    units: tuple[str, ...]
    frame: str
    rotation: str | None = None

    def __post_init__(self) -> None:
        if len(self.components) != len(self.units):
            raise SpecMismatch(f"vector {self.name!r}: {len(self.components)} components but {len(self.units)} units")

    @property
    def key(self) -> str:
        """The observation's key for this vector."""
        return f"vector.{self.name}"


@dataclass(frozen=True, kw_only=True)
class ObservationSpec:
    """Everything that is observed at one step: cameras, vectors and whether an instruction is given."""

    cameras: tuple[Camera, ...] = ()
    vectors: tuple[Vector, ...] = ()
    instruction: bool = False

    def __post_init__(self) -> None:
        for key in self.keys:
            if self.keys.count(key) > 1:
                raise SpecMismatch(f"observation {key!r} is there twice; names must differ")

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys of an observation, cameras first."""
        tail = (INSTRUCTION,) if self.instruction else ()
        return tuple(camera.key for camera in self.cameras) + tuple(vector.key for vector in self.vectors) + tail

    def shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of one step's value under `key`, without batch and time."""
        for camera in self.cameras:
            if camera.key == key:
                return (camera.height, camera.width, 3)
        for vector in self.vectors:
            if vector.key == key:
                return (len(vector.components),)
        raise SpecMismatch(f"no observation {key!r}{nearest(key, self.keys)}; observed: {', '.join(self.keys)}")

    def select(self, keys: tuple[str, ...]) -> ObservationSpec:
        """Return the part of this spec under `keys`; an unknown key is an error."""
        for key in keys:
            if key not in self.keys:
                raise SpecMismatch(f"no observation {key!r}{nearest(key, self.keys)}; observed: {', '.join(self.keys)}")
        return ObservationSpec(
            cameras=tuple(camera for camera in self.cameras if camera.key in keys),
            vectors=tuple(vector for vector in self.vectors if vector.key in keys),
            instruction=self.instruction and INSTRUCTION in keys,
        )


@dataclass(frozen=True, kw_only=True)
class ActionSpec:
    """One action: component names, units, frame, bounds, and who integrates what.

    `kind` says what the components mean ("end-effector delta position", "joint position"), `integrator` who turns
    them into motion, `gripper` the convention of the gripper component ("+1 closes, -1 opens") or None.
    """

    components: tuple[str, ...]
    units: tuple[str, ...]
    frame: str
    kind: str
    integrator: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    gripper: str | None = None
    rotation: str | None = None

    def __post_init__(self) -> None:
        width = len(self.components)
        for name in ("units", "low", "high"):
            if len(getattr(self, name)) != width:
                raise SpecMismatch(f"action spec: {width} components but {len(getattr(self, name))} entries in {name}")
        for name, low, high in zip(self.components, self.low, self.high, strict=True):
            if not low < high:
                raise SpecMismatch(f"action {name!r}: low {low} is not below high {high}")

    @property
    def width(self) -> int:
        """The number of action components, A."""
        return len(self.components)


@dataclass(frozen=True, kw_only=True)
class RobotSpec:
    """The whole interface of a robot, dataset or policy: embodiment, control rate [Hz], observation and action."""

    embodiment: str
    rate_hz: float
    observation: ObservationSpec
    action: ActionSpec


def check_compatible(have: RobotSpec, want: RobotSpec, *, have_name: str, want_name: str) -> None:
    """Raise SpecMismatch naming every way in which `have` does not offer what `want` needs; more is fine."""
    problems = _differences(have, want, ("embodiment", "rate_hz"), "")
    problems += _differences(have.action, want.action, tuple(f.name for f in fields(ActionSpec)), "action ")
    problems += _missing(have.observation.cameras, want.observation.cameras, "camera")
    problems += _missing(have.observation.vectors, want.observation.vectors, "vector")
    if want.observation.instruction and not have.observation.instruction:
        problems.append("no instruction, but one is needed")
    if problems:
        shown = problems[:7] + ([f"... and {len(problems) - 7} more"] if len(problems) > 7 else [])
        raise SpecMismatch(f"{have_name} does not fit {want_name}:\n" + "\n".join(f"  {problem}" for problem in shown))


def _differences(have: Any, want: Any, names: tuple[str, ...], prefix: str) -> list[str]:
    return [
        f"{prefix}{name}: {getattr(have, name)!r}, expected {getattr(want, name)!r}"
        for name in names
        if getattr(have, name) != getattr(want, name)
    ]


def _missing(have: tuple[Any, ...], want: tuple[Any, ...], kind: str) -> list[str]:
    offered = {item.name: item for item in have}
    problems = []
    for item in want:
        if item.name not in offered:
            problems.append(
                f"no {kind} {item.name!r}{nearest(item.name, offered)} offered: {', '.join(offered) or 'none'}"
            )
        elif offered[item.name] != item:
            names = tuple(f.name for f in fields(item))
            problems += _differences(offered[item.name], item, names, f"{kind} {item.name!r} ")
    return problems


def check_observation(observation: Mapping[str, Any], spec: ObservationSpec, *, batch: int, obs_horizon: int) -> None:
    """Raise SpecMismatch unless `observation` holds exactly the keys of `spec` with shape (batch, obs_horizon, ...)."""
    for key in observation:
        if key not in spec.keys:
            raise SpecMismatch(
                f"unexpected observation {key!r}{nearest(key, spec.keys)}; expected: {', '.join(spec.keys)}"
            )
    for key in spec.keys:
        if key not in observation:
            raise SpecMismatch(f"observation {key!r} is missing; given: {', '.join(observation)}")
        if key == INSTRUCTION:
            texts = observation[key]
            if len(texts) != batch or not all(isinstance(text, str) and text.strip() for text in texts):
                raise SpecMismatch(f"instruction: expected {batch} non-empty texts, got {list(texts)!r:.200}")
            continue
        value = np.asarray(observation[key])
        expected = (batch, obs_horizon, *spec.shape(key))
        dtype = np.dtype(np.uint8 if key.startswith("image.") else np.float32)
        if value.shape != expected or value.dtype != dtype:
            raise SpecMismatch(f"{key}: shape {value.shape} {value.dtype}, expected {expected} {dtype}")
        if dtype == np.float32 and not np.isfinite(value).all():
            raise SpecMismatch(f"{key}: not finite")
