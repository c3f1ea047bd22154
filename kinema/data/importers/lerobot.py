"""LeRobotDataset v2.0, v2.1 and v3.0, written by LeRobot or others; its features are the card's fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from kinema.core.errors import DataError
from kinema.core.spec import ACTION
from kinema.data.cards import UNKNOWN, ActionCard, CameraCard, Card, Field, VectorCard
from kinema.data.image_stream import ImageStream
from kinema.data.importers.base import LazyFields, RawEpisode, Source
from kinema.data.lerobot import layout
from kinema.data.lerobot.pictures import FrameFile, frame_files
from kinema.data.lerobot.rows import read_columns
from kinema.data.lerobot.versions import View, image_shape, read_view

TASK = "task"
SUCCESS = "next.success"
_NUMBERS = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "bool")


def lerobot(path: Path) -> Source:
    """Return the source of the LeRobotDataset at `path`; raises DataError for a directory that is none."""
    return LeRobotSource(read_view(path))


class LeRobotSource(Source):
    """The episodes of a LeRobotDataset of any version; `task` is the text field with what an episode's task says."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._known: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.view.episodes)

    @cached_property
    def fields(self) -> Mapping[str, Field]:
        """Every feature whose dtype can be read, and the task."""
        found = {TASK: Field(shape=(), dtype="text")}
        for name, feature in self.view.features.items():
            if name in self.view.cameras:
                found[name] = Field(shape=image_shape(name, feature), dtype="uint8")
            elif feature["dtype"] == "string":
                found[name] = Field(shape=(), dtype="text")
            elif feature["dtype"] in _NUMBERS:
                found[name] = Field(shape=tuple(feature["shape"]), dtype=feature["dtype"])
        return found

    @property
    def card(self) -> Card:
        """What info.json says: cameras, observed vectors and actions by name; nothing of units, frames or bounds."""
        numbers = [n for n, field in self.fields.items() if field.dtype != "text" and n not in self.view.cameras]
        actions = tuple(name for name in numbers if name == ACTION or name.startswith(f"{ACTION}."))
        observed = [name for name in numbers if name.startswith("observation.")]
        components = tuple(c for name in actions for c in self._components(name, prefixed=len(actions) > 1))
        vectors = tuple(
            VectorCard(name=_short(n), fields=(n,), components=c, units=(UNKNOWN,) * len(c))
            for n in observed
            for c in [self._components(n)]
        )
        return Card(
            embodiment=self.view.robot_type or UNKNOWN,
            rate_hz=float(self.view.fps),
            cameras=tuple(CameraCard(name=_short(name), field=name) for name in self.view.cameras),
            vectors=vectors,
            action=ActionCard(
                fields=actions, components=components, units=(UNKNOWN,) * len(components), gripper=UNKNOWN
            ),
            instruction=f"field:{TASK}",
            success="file" if self.successes is not None else UNKNOWN,
        )

    @cached_property
    def successes(self) -> tuple[bool, ...] | None:
        """Whether each episode succeeded, where the dataset says so: in a column of kinema, or as `next.success`."""
        own = [row.success for row in self.view.episodes]
        if None not in own:
            return tuple(bool(value) for value in own)
        if self.view.features.get(SUCCESS, {}).get("dtype") != "bool":
            return None
        reached = self.column(SUCCESS).reshape(-1)
        return tuple(bool(reached[row.start : row.start + row.length].any()) for row in self.view.episodes)

    def column(self, name: str) -> np.ndarray:
        """Return all rows (N, *shape) of a field that is no camera."""
        if name not in self._known:
            if name == TASK:
                self._known[name] = np.array(self.view.tasks, dtype=object)[self.column("task_index").reshape(-1)]
            else:
                self._known |= read_columns(self.view, (name,))
        return self._known[name]

    def read(self, index: int) -> RawEpisode:
        """Return episode `index`; its images are decoded when they are asked for."""
        row = self.view.episodes[index]

        def load(name: str) -> np.ndarray | ImageStream | str:
            if name in self.view.cameras:
                return self._images(name, index)
            values = self.column(name)[row.start : row.start + row.length]
            return values if self.fields[name].dtype != "text" else _one_text(name, values)

        def beside(prefix: str) -> dict[str, np.ndarray]:
            names = [name for name in self.fields if prefix + name in self.view.features]
            return {name: self.column(prefix + name).reshape(-1)[row.start :][: row.length] for name in names}

        return RawEpisode(
            fields=LazyFields(self.fields, load),
            success=None if self.successes is None else self.successes[index],
            origin={"format": f"LeRobotDataset {self.view.version}", **(row.origin or {}), "source_episode": index},
            captured_ns=beside(layout.CAPTURED),
            valid=beside(layout.VALID),
        )

    def _images(self, name: str, index: int) -> ImageStream:
        row = self.view.episodes[index]
        height, width, _ = self.fields[name].shape
        for file, parts in self._files(name).items():
            for first, start, length in parts:
                if start == row.start:
                    total = sum(part[2] for part in parts)
                    read = partial(_frames, file, (height, width), total, first)
                    called = f"{name} of episode {index}"
                    return ImageStream(name=called, index=np.arange(length), size=(height, width), read=read)
        raise DataError(f"no file holds {name!r} of episode {index}")

    def _files(self, name: str) -> dict[FrameFile, list[tuple[int, int, int]]]:
        return frame_files(self.view, name)

    def _components(self, name: str, *, prefixed: bool = False) -> tuple[str, ...]:
        width = int(np.prod(self.fields[name].shape))
        names: Any = self.view.features[name].get("names")
        names = next(iter(names.values()), None) if isinstance(names, Mapping) else names
        short = name.rpartition(".")[2]
        if isinstance(names, list) and len(names) == len({*map(str, names)}) == width:
            return tuple(f"{short}.{entry}" if prefixed else str(entry) for entry in names)
        return tuple(f"{short}_{number}" for number in range(width))


def _frames(
    file: FrameFile, size: tuple[int, int], length: int, first: int, numbers: np.ndarray
) -> Iterator[np.ndarray]:
    """Yield the frames `first + numbers` in order; what is decoded early waits for its turn: a group of pictures."""
    waiting: dict[int, np.ndarray] = {}
    ordered = (first + numbers).tolist()
    wanted, missing = iter(ordered), set(ordered)
    turn = next(wanted, None)
    reader = file.open(size=size, length=length)
    try:
        for number, image in reader.read(ordered):
            if number in missing:
                waiting[number] = image
                missing.discard(number)
            while turn in waiting:
                yield waiting.pop(turn)
                turn = next(wanted, None)
    finally:
        reader.close()


def _short(feature: str) -> str:
    """Return kinema's name of an observation: `observation.images.front` is `front`."""
    if feature.startswith("observation."):
        feature = layout.sample_key(feature).partition(".")[2]
    return feature.replace("images.", "", 1) if feature.startswith("images.") else feature


def _one_text(name: str, values: np.ndarray) -> str:
    found = sorted(set(values.tolist()))
    if len(found) != 1:
        raise DataError(
            f"{name!r} changes within the episode: {', '.join(repr(text) for text in found[:3])}; an episode has one "
            f"instruction: give the card a text, or another field"
        )
    return str(found[0])
