"""Minari datasets in HDF5: `main_data.hdf5` beside `metadata.json`, with Dict, Tuple or Box observations."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from kinema.core.errors import DataError
from kinema.data.cards import UNKNOWN, Card, Field
from kinema.data.importers import _hdf5
from kinema.data.importers._images import decode_image, stack_images
from kinema.data.importers._propose import proposed
from kinema.data.importers.base import LazyFields, RawEpisode, Source
from kinema.data.lerobot.layout import read_json

_MAIN, _METADATA = "main_data.hdf5", "metadata.json"
_OBSERVATIONS, _ACTIONS = "observations", "actions"


def minari(path: Path) -> Source:
    """Return the source of a Minari dataset's directory (or its `data`); raises DataError for one that is not."""
    folder = path / "data" if (path / "data" / _METADATA).is_file() else path
    metadata = read_json(folder / _METADATA)
    if metadata.get("data_format") != "hdf5":
        raise DataError(f"{folder}: data_format {metadata.get('data_format')!r}, expected 'hdf5'")
    spaces = {
        name: _flat(_space(metadata, key), name)
        for name, key in ((_OBSERVATIONS, "observation_space"), (_ACTIONS, "action_space"))
    }
    with _hdf5.opened(folder / _MAIN) as file:
        names = [f"episode_{index}" for index in range(len(file))]
        if not names or metadata.get("total_episodes") != len(names):
            raise DataError(f"metadata counts {metadata.get('total_episodes')!r} episodes, there are {len(names)}")
        steps = [_steps(_hdf5.subgroup(file, name)) for name in names]
        if metadata.get("total_steps") != sum(steps):
            raise DataError(f"metadata counts {metadata.get('total_steps')!r} steps, there are {sum(steps)}")
        flat = spaces[_OBSERVATIONS] | spaces[_ACTIONS]
        fields = _fields(_hdf5.subgroup(file, names[0]), flat)
    return _Dataset(folder=folder, metadata=metadata, spaces=flat, known_fields=fields, steps=tuple(steps))


def _space(metadata: Mapping[str, Any], key: str) -> Any:
    """Return the description of a space, which Minari keeps as JSON inside JSON."""
    try:
        return json.loads(metadata[key])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{_METADATA}: {key} is missing or not JSON: {error}") from error


def _flat(space: Any, path: str, depth: int = 0) -> dict[str, Mapping[str, Any]]:
    """Return every leaf space by the path of its array."""
    if not isinstance(space, dict) or depth > 8:
        raise DataError(f"{_METADATA}: the space of {path} is not one")
    if space.get("type") not in ("Dict", "Tuple"):
        return {path: space}
    parts = space.get("subspaces")
    if space["type"] == "Tuple" and isinstance(parts, list):
        parts = {f"_index_{i}": part for i, part in enumerate(parts)}
    if not isinstance(parts, dict):
        raise DataError(f"{_METADATA}: the space of {path} has no subspaces")
    return {k: v for name, part in parts.items() for k, v in _flat(part, f"{path}/{name}", depth + 1).items()}


def _steps(episode: h5py.Group) -> int:
    said, steps = _hdf5.whole_number(episode, "total_steps"), _hdf5.dataset(episode, "rewards").shape[0]
    if said not in (None, steps):
        raise DataError(f"{episode.name}: total_steps is {said}, but there are {steps} rewards")
    return int(steps)


def _fields(episode: h5py.Group, spaces: Mapping[str, Mapping[str, Any]]) -> dict[str, Field]:
    found = _hdf5.datasets(episode)
    missing = sorted(set(spaces) - set(found))
    if missing:
        raise DataError(f"{episode.name} has no {missing[0]!r}, which the metadata has; it has: {', '.join(found)}")
    fields = _hdf5.fields_of(found)
    for name, stored in found.items():
        if _jpeg(stored, spaces.get(name)):
            fields[name] = Field(shape=decode_image(np.asarray(stored[0]).tobytes(), name).shape, dtype="uint8")
        elif h5py.check_string_dtype(stored.dtype) is not None and stored.ndim == 1:
            fields[name] = Field(shape=(), dtype="text")
    return fields


def _jpeg(stored: h5py.Dataset, space: Mapping[str, Any] | None) -> bool:
    """Return whether rows are JPEG bytes: the space is an image's, but each row is a run of bytes."""
    if space is None or space.get("type") != "Box" or len(space.get("shape", ())) not in (2, 3):
        return False
    if h5py.check_vlen_dtype(stored.dtype) == np.uint8:
        return True
    return stored.dtype == np.uint8 and stored.ndim == 2 and len(space["shape"]) + 1 != stored.ndim


@dataclass(frozen=True, kw_only=True)
class _Dataset(Source):
    folder: Path
    metadata: Mapping[str, Any]
    spaces: Mapping[str, Mapping[str, Any]]
    known_fields: Mapping[str, Field]
    steps: tuple[int, ...]

    @property
    def fields(self) -> Mapping[str, Field]:
        return self.known_fields

    @cached_property
    def card(self) -> Card:
        actions = [name for name in self.spaces if name.startswith(_ACTIONS)]
        shown = {name: f for name, f in self.known_fields.items() if name.startswith(_OBSERVATIONS) or name in actions}
        texts = [name for name, field in shown.items() if field.dtype == "text"]
        card = proposed(
            shown,
            actions,
            instruction=f"field:{texts[0]}" if len(texts) == 1 else UNKNOWN,
            success="file" if "infos/success" in self.known_fields else UNKNOWN,
        )
        low, high = (self._bounds(actions, name) for name in ("low", "high"))
        return replace(card, action=replace(card.action, low=low, high=high))

    def _bounds(self, actions: list[str], side: str) -> tuple[float, ...] | None:
        """Return the bounds of Box actions, None when one is open or not a number."""
        values = [x for name in actions for x in np.ravel(self.spaces[name].get(side, math.nan)).tolist()]
        return tuple(map(float, values)) if all(isinstance(x, float) and math.isfinite(x) for x in values) else None

    def __len__(self) -> int:
        return len(self.steps)

    def read(self, index: int) -> RawEpisode:
        with _hdf5.opened(self.folder / _MAIN) as file:
            episode = _hdf5.subgroup(file, f"episode_{index}")
            fields = _fields(episode, self.spaces)
            success = _hdf5.numbers(_hdf5.dataset(episode, "infos/success")) if "infos/success" in fields else None
        name = self.metadata.get("dataset_id")
        return RawEpisode(
            fields=LazyFields(fields, lambda field: self._load(index, field)),
            success=None if success is None else bool((success > 0).any()),
            origin={"episode": index} | ({"dataset": name} if isinstance(name, str) else {}),
        )

    def _load(self, index: int, name: str) -> np.ndarray | str:
        with _hdf5.opened(self.folder / _MAIN) as file:
            stored = _hdf5.dataset(_hdf5.subgroup(file, f"episode_{index}"), name)
            rows = self._rows(stored, self.steps[index], name)
            if _jpeg(stored, self.spaces.get(name)):
                _hdf5.check_stored(stored)
                images = [decode_image(np.asarray(stored[i]).tobytes(), f"{name}, step {i}") for i in range(rows)]
                return stack_images(images, name)
            if h5py.check_string_dtype(stored.dtype) is not None:
                return _text(stored, rows)
            return _hdf5.numbers(stored)[:rows]

    def _rows(self, stored: h5py.Dataset, steps: int, name: str) -> int:
        """Return how many rows belong to steps: an observation after the last action has no step."""
        extra = 1 if re.match(r"(observations|infos)(/|$)", name) else 0
        if stored.ndim == 0 or stored.shape[0] not in (steps, steps + extra):
            raise DataError(f"{stored.name}: shape {stored.shape} for {steps} steps")
        return steps


def _text(stored: h5py.Dataset, rows: int) -> str:
    texts = {value.decode("utf-8") for value in stored[:rows]}
    if len(texts) != 1:
        raise DataError(f"{stored.name}: {len(texts)} different texts in one episode, expected one")
    return texts.pop()
