"""RLDS datasets as TFDS stores them (Open X-Embodiment, DROID, Bridge): features.json and tfrecord shards."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kinema.core.errors import DataError
from kinema.data.cards import UNKNOWN, Card, Field
from kinema.data.importers._images import decode_image, stack_images
from kinema.data.importers._propose import proposed
from kinema.data.importers._tfrecord import parse_example, read_record, record_offsets
from kinema.data.importers.base import LazyFields, RawEpisode, Source
from kinema.data.lerobot.layout import read_json

_FEATURES, _INFO = "features.json", "dataset_info.json"
_STEPS = "steps/"
_MARKS = ("steps/is_first", "steps/is_last", "steps/is_terminal", "steps/reward", "steps/discount")
_INSTRUCTIONS = ("language_instruction", "natural_language_instruction")
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")

Example = Mapping[str, "np.ndarray | list[bytes]"]


@dataclass(frozen=True, kw_only=True)
class _Feature:
    """How a feature is stored: `kind` tensor, image or text; anything else is known by name, but not read."""

    kind: str
    shape: tuple[int, ...] = ()
    dtype: str = ""


@dataclass(frozen=True, kw_only=True)
class _Place:
    path: Path
    split: str
    offset: int
    length: int


def rlds(path: Path) -> Source:
    """Return the source of a TFDS directory of one version: all its splits, each episode with its split as origin."""
    if not (path / _FEATURES).is_file():
        versions = sorted(p.parent.name for p in path.glob(f"*/{_FEATURES}"))
        found = f"; its versions are: {', '.join(versions)}" if versions else ""
        raise DataError(f"{path} has no {_FEATURES}: expected the directory of one version{found}")
    features = dict(_flat(read_json(path / _FEATURES), "", 0))
    if not any(name.startswith(_STEPS) for name in features):
        raise DataError(f"{path / _FEATURES} has no steps, so it is not RLDS; it has: {', '.join(list(features)[:8])}")
    places = tuple(_places(path, read_json(path / _INFO)))
    if not places:
        raise DataError(f"{path} has no episodes")
    return _Directory(path=path, features=features, places=places)


def _flat(feature: Any, name: str, depth: int) -> Iterator[tuple[str, _Feature]]:
    """Yield every leaf feature by the name that it has in an example."""
    if not isinstance(feature, dict) or depth > 12:
        raise DataError(f"{_FEATURES}: {name or 'the root'} is not a feature")
    try:
        if "featuresDict" in feature:
            for key, part in feature["featuresDict"]["features"].items():
                yield from _flat(part, f"{name}/{key}" if name else key, depth + 1)
        elif "sequence" in feature and name == "steps":
            yield from _flat(feature["sequence"]["feature"], name, depth + 1)
        elif "image" in feature:
            told = feature["image"]
            yield name, _Feature(kind="image", shape=_shape(told), dtype=told.get("dtype", "uint8"))
        elif "text" in feature:
            yield name, _Feature(kind="text")
        elif "tensor" in feature:
            yield name, _tensor(feature["tensor"])
        else:
            yield name, _Feature(kind=str(feature.get("pythonClassName", "unknown")).rsplit(".", 1)[-1])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{_FEATURES}: {name or 'the root'} is malformed: {error!r}") from error


def _shape(told: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(n) for n in told.get("shape", {}).get("dimensions", ()))


def _tensor(told: Mapping[str, Any]) -> _Feature:
    shape, dtype = _shape(told), told["dtype"]
    if dtype == "string":
        return _Feature(kind="text") if not shape else _Feature(kind="array of texts")
    encoded = told.get("encoding", "none").lower() not in ("none", "")
    return _Feature(kind=f"{told['encoding']} tensor" if encoded else "tensor", shape=shape, dtype=dtype)


def _places(root: Path, info: Mapping[str, Any]) -> Iterator[_Place]:
    """Yield where each episode lies, after shards and their numbers of records are checked."""
    if info.get("fileFormat", "tfrecord") != "tfrecord":
        raise DataError(f"{root}: file format {info['fileFormat']!r}, expected 'tfrecord'")
    for split in info.get("splits", ()):
        dataset, name, template = info.get("name"), split.get("name"), split.get("filepathTemplate", _TEMPLATE)
        if not all(isinstance(n, str) and _NAME.fullmatch(n) for n in (dataset, name)) or template != _TEMPLATE:
            raise DataError(f"{root / _INFO}: dataset {dataset!r}, split {name!r}, template {template!r} are not read")
        lengths = [int(length) for length in split.get("shardLengths", ())]
        for index, length in enumerate(lengths):
            path = root / f"{dataset}-{name}.tfrecord-{index:05d}-of-{len(lengths):05d}"
            records = record_offsets(path)
            if len(records) != length:
                raise DataError(f"{path} has {len(records)} episodes, {_INFO} counts {length}")
            yield from (_Place(path=path, split=name, offset=o, length=n) for o, n in records)


@dataclass(frozen=True, kw_only=True)
class _Directory(Source):
    path: Path
    features: Mapping[str, _Feature]
    places: tuple[_Place, ...]

    @cached_property
    def fields(self) -> Mapping[str, Field]:
        fields = {}
        for name, feature in self.features.items():
            if not name.startswith(_STEPS):
                continue
            shape = feature.shape
            if feature.kind == "image" and (-1 in shape or not shape):
                shape = _images(self._example(0), name, limit=1).shape[1:]
            kinds = {"text": "text", "tensor": feature.dtype, "image": feature.dtype}
            fields[name] = Field(shape=shape, dtype=kinds.get(feature.kind, feature.kind))
        return fields

    @cached_property
    def card(self) -> Card:
        read = {n: f for n, f in self.fields.items() if self.features[n].kind in ("image", "tensor", "text")}
        texts = [name for name, f in read.items() if f.dtype == "text" and name.rsplit("/", 1)[-1] in _INSTRUCTIONS]
        card = proposed(
            {n: f for n, f in read.items() if n not in _MARKS},
            [n for n, f in read.items() if n == "steps/action" and len(f.shape) == 1],
        )
        return replace(card, instruction=f"field:{texts[0]}" if texts else UNKNOWN)

    def __len__(self) -> int:
        return len(self.places)

    def read(self, index: int) -> RawEpisode:
        example, place = self._example(index), self.places[index]
        steps = _count(example, self.features)
        origin: dict[str, str | int | float] = {"file": place.path.name, "split": place.split, "episode": index}
        for name, feature in self.features.items():
            if feature.kind == "text" and not name.startswith(_STEPS) and name in example:
                origin[name] = b"".join(_bytes(example, name)).decode("utf-8", "replace")
        return RawEpisode(fields=LazyFields(self.fields, lambda name: self._load(example, name, steps)), origin=origin)

    def _example(self, index: int) -> Example:
        place = self.places[index]
        return parse_example(read_record(place.path, place.offset, place.length), f"{place.path}, episode {index}")

    def _load(self, example: Example, name: str, steps: int) -> np.ndarray | str:
        feature = self.features[name]
        if feature.kind == "text":
            return _text(example, name)
        if feature.kind == "image":
            if feature.dtype != "uint8":
                raise DataError(f"{name}: an image of {feature.dtype} is not read, expected uint8")
            return _images(example, name)
        if feature.kind != "tensor":
            raise DataError(f"{name}: features of kind {feature.kind!r} are not read")
        values, width = example.get(name), int(np.prod(feature.shape))
        if not isinstance(values, np.ndarray) or values.size != steps * width:
            raise DataError(f"{name}: {_told(values)}, expected {steps} steps of {width} numbers")
        return values.reshape(steps, *feature.shape)


def _told(values: Any) -> str:
    return "missing" if values is None else f"{len(values)} values"


def _bytes(example: Example, name: str) -> list[bytes]:
    values = example.get(name)
    if not isinstance(values, list):
        raise DataError(f"{name}: {_told(values)}, expected bytes")
    return values


def _images(example: Example, name: str, limit: int | None = None) -> np.ndarray:
    stored = _bytes(example, name)[:limit]
    if not stored:
        raise DataError(f"{name}: no images")
    return stack_images([decode_image(data, f"{name}, step {step}") for step, data in enumerate(stored)], name)


def _text(example: Example, name: str) -> str:
    texts = set(_bytes(example, name))
    if len(texts) != 1:
        raise DataError(f"{name}: {len(texts)} different texts in one episode, expected one")
    try:
        return texts.pop().decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: not UTF-8: {error}") from error


def _count(example: Example, features: Mapping[str, _Feature]) -> int:
    """Return the number of steps, after is_first and is_last are found where an episode begins and ends."""
    known = [n for n, f in features.items() if n.startswith(_STEPS) and f.kind in ("text", "image") and n in example]
    marks = {name: np.asarray(example[name]) for name in ("steps/is_first", "steps/is_last") if name in example}
    if not marks and not known:
        raise DataError("neither is_first, is_last, a text nor an image tells the number of steps")
    steps = len(next(iter(marks.values()))) if marks else len(example[known[0]])
    expected = {"steps/is_first": 0, "steps/is_last": steps - 1}
    for name, mark in marks.items():
        if len(mark) != steps or np.flatnonzero(mark).tolist() != [expected[name]]:
            raise DataError(f"{name} is true at steps {np.flatnonzero(mark)[:6].tolist()}, expected [{expected[name]}]")
    return steps
