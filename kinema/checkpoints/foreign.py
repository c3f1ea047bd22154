"""The checkpoint of another project: what it says of its robot, and the policy that it is once a robot is named."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from kinema.core.config import load, to_data
from kinema.core.errors import CheckpointError, KinemaError, SpecMismatch, nearest
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.policies.base import PolicyConfig

UNSAID = "?"


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a checkpoint says of its robot: names and widths; of a camera (Hi, Wi) [px], or None where any will do.

    A camera called "?" is one that the robot may call as it likes.
    """

    cameras: Mapping[str, tuple[int, int] | None]
    vectors: Mapping[str, int] = field(default_factory=dict)
    action: int
    instruction: bool = False

    def __str__(self) -> str:
        cameras = [
            f"{name} {' x '.join(map(str, size)) if size else 'of any size'}" for name, size in self.cameras.items()
        ]
        vectors = [f"{name} ({width})" for name, width in self.vectors.items()]
        return (
            f"cameras: {', '.join(cameras) or 'none'}; vectors: {', '.join(vectors) or 'none'}; "
            f"action ({self.action}){'; an instruction' if self.instruction else ''}"
        )

    def check(self, spec: RobotSpec, where: Path) -> None:
        """Raise SpecMismatch, naming all of it, unless `spec`, read from `where`, has what the checkpoint says."""
        cameras = {camera.name: camera for camera in spec.observation.cameras}
        vectors = {vector.name: len(vector.components) for vector in spec.observation.vectors}
        wrong = [_lacking("camera", name, cameras) for name in self.cameras if name not in (*cameras, UNSAID)]
        wrong += [_lacking("vector", name, vectors) for name in self.vectors if name not in vectors]
        for name, size in self.cameras.items():
            have = cameras.get(name)
            if have is not None and size is not None and (have.height, have.width) != size:
                wrong.append(f"camera {name!r} is {have.height} x {have.width} px, expected {size[0]} x {size[1]}")
        for name, width in self.vectors.items():
            if name in vectors and vectors[name] != width:
                wrong.append(f"vector {name!r} has {vectors[name]} components, expected {width}")
        if spec.action.width != self.action:
            wrong.append(f"the action has {spec.action.width} components, expected {self.action}")
        if self.instruction and not spec.observation.instruction:
            wrong.append("no instruction, but one is needed")
        if wrong:
            raise SpecMismatch("\n".join([f"{where} is not the robot of the checkpoint:", *wrong[:8]]))

    def template(self) -> dict[str, Any]:
        """Return a robot as JSON data with these names and widths, and "?" for what must be said."""
        cameras = [
            Camera(name=name, height=1, width=1) if size is None else Camera(name=name, height=size[0], width=size[1])
            for name, size in self.cameras.items()
        ]
        vectors = [
            Vector(name=name, components=(UNSAID,) * width, units=(UNSAID,) * width, frame=UNSAID)
            for name, width in self.vectors.items()
        ]
        count = self.action
        action = ActionSpec(
            components=(UNSAID,) * count,
            units=(UNSAID,) * count,
            frame=UNSAID,
            kind=UNSAID,
            integrator=UNSAID,
            low=(-1.0,) * count,
            high=(1.0,) * count,
            gripper=UNSAID,
        )
        observation = ObservationSpec(cameras=tuple(cameras), vectors=tuple(vectors), instruction=self.instruction)
        data = to_data(RobotSpec(embodiment=UNSAID, rate_hz=1.0, observation=observation, action=action))
        data["rate_hz"] = UNSAID
        for camera in data["observation"]["cameras"]:
            if self.cameras[camera["name"]] is None:
                camera |= {"height": UNSAID, "width": UNSAID}
        data["action"] |= {"low": [UNSAID] * count, "high": [UNSAID] * count}
        return dict(data)


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What can be said on the command line of a checkpoint; None where nothing is said."""

    tokenizer: Path | None = None
    unnorm_key: str | None = None

    def refuse(self, kind: str, *names: str) -> None:
        """Raise KinemaError when one of `names` is chosen, which `kind` has no use for."""
        for name in names:
            if vars(self)[name] is not None:
                raise KinemaError(f"--{name.replace('_', '-')} {vars(self)[name]}: {kind} has no use for it")


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A policy with all its weights by their names here, for the robot `spec`; `facts` say what it was there."""

    spec: RobotSpec
    policy: PolicyConfig
    weights: Mapping[str, Tensor]
    facts: Mapping[str, Any]


class Foreign(ABC):
    """A checkpoint whose files have been found; `files` are those that its policy is made of."""

    said: Said
    files: tuple[Path, ...]

    @abstractmethod
    def imported(self, spec: RobotSpec) -> Imported:
        """Return the policy for the robot `spec`; raises KinemaError for what kinema does not have."""


def read_robot(path: Path, said: Said) -> RobotSpec:
    """Return the robot that the JSON at `path` describes; raises KinemaError unless it is that of the checkpoint."""
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise KinemaError(f"cannot read {path}: {error}") from error
    if unsaid := list(dict.fromkeys(_unsaid(data, ""))):
        raise SpecMismatch(
            f'{path} does not say {", ".join(unsaid[:6])}{" ..." * (len(unsaid) > 6)}\nfix: replace each "?"'
        )
    spec = load(path)
    if not isinstance(spec, RobotSpec):
        raise KinemaError(f"{path} holds a {type(spec).__name__}, expected a RobotSpec")
    said.check(spec, path)
    return spec


def digests(files: Iterable[Path]) -> dict[str, str]:
    """Return the sha256 of each file by its name."""
    found = {}
    for path in files:
        with open(path, "rb") as file:
            sha256 = hashlib.sha256()
            while block := file.read(1 << 22):
                sha256.update(block)
        found[path.name] = sha256.hexdigest()
    return found


def complete(tensors: Mapping[str, Tensor], where: Path) -> dict[str, Tensor]:
    """Return `tensors` in float32, exact for shorter formats; raises CheckpointError unless all are finite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise CheckpointError(f"{where}: {name!r} holds values that are not finite")
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def _lacking(kind: str, name: str, offered: Mapping[str, Any]) -> str:
    return f"no {kind} {name!r}{nearest(name, offered)}; it has: {', '.join(offered) or 'none'}"


def _unsaid(data: Any, place: str) -> Iterable[str]:
    if data == UNSAID:
        yield place.removeprefix(".")
    elif isinstance(data, dict):
        for name, value in data.items():
            yield from _unsaid(value, f"{place}.{name}")
    elif isinstance(data, list):
        for value in data:
            yield from _unsaid(value, place)
