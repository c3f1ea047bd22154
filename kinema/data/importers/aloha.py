"""ALOHA HDF5 as ACT records it: one episode a file, joint positions [rad] and grippers from 0 (closed) to 1 (open)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np

from kinema.core.errors import DataError
from kinema.data.cards import UNKNOWN, ActionCard, Card, Field, VectorCard
from kinema.data.importers import _hdf5
from kinema.data.importers._images import decode_image, stack_images
from kinema.data.importers._propose import proposed
from kinema.data.importers.base import LazyFields, RawEpisode, Source

RATE_HZ = 50.0
"""ACT's DT is 0.02 s, on the robot and in simulation; the file does not repeat it."""
_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
_LIMITS_RAD = ((-3.14158, 3.14158), (-1.85005, 1.25664), (-1.76278, 1.6057), (-3.14158, 3.14158), (-1.8675, 2.23402),
               (-3.14158, 3.14158))  # fmt: skip
"""Joint limits of the ViperX 300 6DOF, the follower arm of ALOHA."""
_COMPONENTS = tuple(f"{arm}_{joint}" for arm in ("left", "right") for joint in (*_JOINTS, "gripper"))
_IMAGES = "observations/images/"


def aloha(path: Path) -> Source:
    """Return the source of one ALOHA episode file, or of a directory of them in the order of their numbers."""
    paths = tuple(sorted(path.glob("*.hdf5"), key=_number)) if path.is_dir() else (path,)
    if not paths:
        raise DataError(f"{path} holds no .hdf5 file")
    first, simulated = _fields(paths[0])
    return _Files(paths=paths, known_fields=first, simulated=simulated)


def _number(path: Path) -> tuple[int, str]:
    digits = path.stem.rpartition("_")[2]
    return (int(digits) if digits.isdigit() else -1, path.name)


def _fields(path: Path) -> tuple[dict[str, Field], bool | None]:
    """Return the fields of one file, compressed images as they come out, and whether it says that it is simulated."""
    with _hdf5.opened(path) as file:
        found = _hdf5.datasets(file)
        fields = _hdf5.fields_of({name: stored for name, stored in found.items() if name != "compress_len"})
        for name in ("action", "observations/qpos"):
            if name not in fields:
                raise DataError(f"no {name!r}; there are: {', '.join(list(found)[:8])}")
        for name in [name for name in fields if name.startswith(_IMAGES)]:
            if _compressed(file, found[name]):
                fields[name] = Field(shape=decode_image(_row(found[name], 0), name).shape, dtype="uint8")
        simulated = file.attrs.get("sim")
        return fields, None if simulated is None else bool(simulated)


def _compressed(file: h5py.File, stored: h5py.Dataset) -> bool:
    """Return whether rows are JPEG bytes padded with zeros to one length."""
    marked = bool(file.attrs.get("compress", False)) or "compress_len" in file
    if marked != (stored.ndim == 2):
        raise DataError(f"{stored.name} is {stored.shape}, but the file is {'' if marked else 'not '}marked compressed")
    if stored.ndim == 2 and stored.dtype != np.uint8:
        raise DataError(f"{stored.name}: compressed images are {stored.dtype}, expected uint8")
    return marked


def _row(stored: h5py.Dataset, index: int) -> bytes:
    return np.asarray(stored[index]).tobytes()


@dataclass(frozen=True, kw_only=True)
class _Files(Source):
    paths: tuple[Path, ...]
    known_fields: Mapping[str, Field]
    simulated: bool | None

    @property
    def fields(self) -> Mapping[str, Field]:
        return self.known_fields

    @cached_property
    def card(self) -> Card:
        card = proposed(self.known_fields, ["action"], rate_hz=RATE_HZ)
        if self.known_fields["action"].shape != (14,):
            return replace(card, rate_hz=None)
        compressed = self._compressed()
        return replace(
            card,
            embodiment="aloha-sim" if self.simulated else "aloha",
            # cv2.imencode takes its input for BGR: recorders that hand it RGB write JPEGs with red and blue exchanged.
            cameras=tuple(replace(c, channels=UNKNOWN if c.field in compressed else "rgb") for c in card.cameras),
            vectors=tuple(_named(vector) for vector in card.vectors),
            action=_action(),
        )

    def _compressed(self) -> set[str]:
        with _hdf5.opened(self.paths[0]) as file:
            return {name for name in self.known_fields if name.startswith(_IMAGES) and file[name].ndim == 2}

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> RawEpisode:
        path = self.paths[index]
        fields, simulated = _fields(path)
        if simulated != self.simulated:
            raise DataError(f"{path}: sim is {simulated}, but {self.simulated} in {self.paths[0].name}")
        return RawEpisode(
            fields=LazyFields(fields, lambda name: _load(path, name)),
            origin={"file": path.name},
        )


def _load(path: Path, name: str) -> np.ndarray:
    with _hdf5.opened(path) as file:
        stored = _hdf5.dataset(file, name)
        if not (name.startswith(_IMAGES) and _compressed(file, stored)):
            return _hdf5.numbers(stored)
        _hdf5.check_stored(stored)
        return stack_images([decode_image(_row(stored, i), f"{name}, step {i}") for i in range(len(stored))], name)


def _named(vector: VectorCard) -> VectorCard:
    """Return the card with what ACT's name of a 14-wide vector says, left arm first."""
    units = {"qpos": ("rad", "1"), "qvel": ("rad/s", "1/s")}.get(vector.name)
    if units is None or len(vector.components) != 14:
        return vector
    return replace(vector, components=_COMPONENTS, units=((units[0],) * 6 + (units[1],)) * 2, frame="joints")


def _action() -> ActionCard:
    limits = (*_LIMITS_RAD, (0.0, 1.0)) * 2
    return ActionCard(
        fields=("action",),
        components=_COMPONENTS,
        units=(("rad",) * 6 + ("1",)) * 2,
        frame="joints",
        kind="joint position",
        integrator="joint position controller of each arm",
        low=tuple(low for low, _ in limits),
        high=tuple(high for _, high in limits),
        gripper="0 closed, 1 open",
    )
