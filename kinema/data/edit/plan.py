"""What a dataset made of others shall hold, and the operations: each returns a `Plan`, nothing is written yet.

`write_new` makes new datasets of plans, `replace` exchanges a dataset for its edited self.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from dataclasses import replace as changed
from typing import Any

import numpy as np

from kinema.core.errors import DataError, KinemaError, SpecMismatch, unknown
from kinema.core.spec import ACTION, RobotSpec, Vector, check_compatible
from kinema.data.lerobot import layout
from kinema.data.lerobot.check import frame_keys
from kinema.data.lerobot.reader import Dataset, EpisodeRecord
from kinema.data.video import VideoCodec
from kinema.data.windows import check_episodes

Values = Callable[[Dataset, EpisodeRecord], np.ndarray]
"""Makes a new feature's rows (T, D) float32 of one episode."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One episode of the new dataset: episode `index` of `dataset`, told `instruction`."""

    dataset: Dataset
    index: int
    instruction: str

    @property
    def record(self) -> EpisodeRecord:
        """The episode's place in its own dataset."""
        return self.dataset.episodes[self.index]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A dataset to be written: its spec, codec and episodes in order.

    `keys` maps each copied sample key (`image.top`) to what it is called in the sources, `added` each new vector's key
    to what makes its rows; Capture times and validity go with what they belong to.
    Videos are copied, never decoded, unless `codec` is not the sources' own.
    """

    operation: str
    spec: RobotSpec
    codec: VideoCodec
    parts: tuple[Part, ...]
    keys: Mapping[str, str]
    added: Mapping[str, Values] = field(default_factory=dict)


def keep(dataset: Dataset, episodes: Sequence[int], *, operation: str = "split") -> Plan:
    """Return the plan of a dataset with only the chosen episodes, in the order given."""
    parts = tuple(_part(dataset, index) for index in check_episodes(dataset, episodes))
    return _plan(operation, dataset, dataset.spec, parts)


def delete(dataset: Dataset, episodes: Sequence[int]) -> Plan:
    """Return the plan of a dataset without the chosen episodes; raises KinemaError when none would be left."""
    dropped = set(check_episodes(dataset, episodes))
    left = [record.index for record in dataset.episodes if record.index not in dropped]
    if not left:
        raise KinemaError(f"{dataset.root}: all {len(dropped)} episodes would be deleted; a dataset needs one")
    return keep(dataset, left, operation="delete")


def merge(datasets: Sequence[Dataset]) -> Plan:
    """Return the plan of all episodes of `datasets` in order; raises SpecMismatch naming each way they differ."""
    if len(datasets) < 2:
        raise KinemaError(f"merge: {len(datasets)} dataset is given, expected at least 2")
    first = datasets[0]
    for other in datasets[1:]:
        _check_equal(first, other)
    parts = tuple(_part(dataset, record.index) for dataset in datasets for record in dataset.episodes)
    return _plan("merge", first, first.spec, parts)


def rename(dataset: Dataset, key: str, name: str) -> Plan:
    """Return the plan of a dataset whose camera or vector `key` (`image.front`) is called `name` (`top`)."""
    _check_key(dataset, key)
    new = f"{key.partition('.')[0]}.{name}"
    if new in frame_keys(dataset.spec):
        raise SpecMismatch(f"{dataset.root} has {new!r} already")
    observation = dataset.spec.observation
    cameras = tuple(changed(c, name=name) if c.key == key else c for c in observation.cameras)
    vectors = tuple(changed(v, name=name) if v.key == key else v for v in observation.vectors)
    spec = changed(dataset.spec, observation=changed(observation, cameras=cameras, vectors=vectors))
    keys = {new if old == key else old: old for old in frame_keys(dataset.spec)}
    return changed(_plan("rename", dataset, spec, _all(dataset)), keys=keys)


def remove(dataset: Dataset, key: str) -> Plan:
    """Return the plan of a dataset without the camera or vector `key`."""
    _check_key(dataset, key)
    observation = dataset.spec.observation
    spec = changed(dataset.spec, observation=observation.select(tuple(k for k in observation.keys if k != key)))
    return _plan("remove", dataset, spec, _all(dataset))


def add(dataset: Dataset, vector: Vector, values: np.ndarray | Values) -> Plan:
    """Return the plan of a dataset with a further vector.

    `values` are all rows (N, D), or a function of (dataset, episode record) that returns the episode's (T, D). They
    become float32; anything not finite or of another shape is SpecMismatch.
    """
    if vector.key in frame_keys(dataset.spec):
        raise SpecMismatch(f"{dataset.root} has {vector.key!r} already")
    if isinstance(values, np.ndarray):
        rows = _checked(values.reshape(len(values), -1), vector, len(dataset))
        make: Values = lambda _, record: rows[record.start : record.start + record.length]  # noqa: E731
    else:
        function = values
        make = lambda source, record: _checked(function(source, record), vector, record.length)  # noqa: E731
    observation = changed(dataset.spec.observation, vectors=(*dataset.spec.observation.vectors, vector))
    plan = _plan("add", dataset, changed(dataset.spec, observation=observation), _all(dataset))
    return changed(plan, keys={key: key for key in frame_keys(dataset.spec)}, added={vector.key: make})


def retask(dataset: Dataset, instructions: Mapping[int, str]) -> Plan:
    """Return the plan of a dataset whose episodes (the keys of `instructions`) are told something else."""
    check_episodes(dataset, tuple(instructions))
    for index, text in instructions.items():
        if not text.strip():
            raise KinemaError(f"episode {index}: an instruction is a non-empty text, not {text!r}")
    parts = tuple(changed(p, instruction=instructions.get(p.index, p.instruction)) for p in _all(dataset))
    return _plan("retask", dataset, dataset.spec, parts)


def reencode(dataset: Dataset, codec: VideoCodec) -> Plan:
    """Return the plan of a dataset whose videos are decoded and compressed anew with `codec`."""
    if codec == dataset.codec:
        raise KinemaError(f"{dataset.root} is compressed with just that: {codec}")
    if not dataset.spec.observation.cameras:
        raise KinemaError(f"{dataset.root} has no camera, so there is nothing to compress")
    return changed(_plan("reencode", dataset, dataset.spec, _all(dataset)), codec=codec)


def _check_own(dataset: Dataset) -> None:
    if not isinstance(dataset.codec, VideoCodec):
        raise DataError(f"{dataset.root} was not written by kinema, so it cannot be edited; import it first")


def _plan(operation: str, dataset: Dataset, spec: RobotSpec, parts: tuple[Part, ...]) -> Plan:
    _check_own(dataset)
    keys = {key: key for key in frame_keys(spec)}
    return Plan(operation=operation, spec=spec, codec=dataset.codec, parts=parts, keys=keys)


def _all(dataset: Dataset) -> tuple[Part, ...]:
    return tuple(_part(dataset, record.index) for record in dataset.episodes)


def _part(dataset: Dataset, index: int) -> Part:
    return Part(dataset=dataset, index=index, instruction=dataset.episodes[index].instruction)


def _check_key(dataset: Dataset, key: str) -> None:
    keys = [known for known in frame_keys(dataset.spec) if known != ACTION]
    if key not in keys:
        if key == ACTION:
            raise SpecMismatch("the action is what a dataset is for: it can neither be removed nor renamed")
        raise unknown("camera or vector", key, keys)


def _checked(values: Any, vector: Vector, length: int) -> np.ndarray:
    rows = np.asarray(values)
    shape = (length, len(vector.components))
    if rows.shape != shape or rows.dtype.kind not in "fiub":
        raise SpecMismatch(f"{vector.key}: shape {rows.shape} {rows.dtype}, expected numbers of shape {shape}")
    rows = rows.astype(np.float32)
    if not np.isfinite(rows).all():
        raise SpecMismatch(f"{vector.key}: not finite at row {int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])}")
    return rows


def _check_equal(first: Dataset, other: Dataset) -> None:
    problems = []
    _check_own(other)
    for have, want in ((first, other), (other, first)):
        try:
            check_compatible(have.spec, want.spec, have_name=str(have.root), want_name=str(want.root))
        except SpecMismatch as error:
            problems += [line for line in str(error).splitlines()[1:] if have is other or "expected" not in line]
    problems += [
        f"  codec {f.name}: {getattr(other.codec, f.name)!r}, expected {getattr(first.codec, f.name)!r}"
        for f in fields(VideoCodec)
        if getattr(other.codec, f.name) != getattr(first.codec, f.name)
    ]
    mine, theirs = (set(layout.timing(*layout.timing_keys(layout.read_info(d.root)))) for d in (first, other))
    problems += [f"  {name}: only in {first.root}" for name in sorted(mine - theirs)]
    problems += [f"  {name}: only in {other.root}" for name in sorted(theirs - mine)]
    if problems:
        shown = problems[:7] + ([f"  ... and {len(problems) - 7} more"] if len(problems) > 7 else [])
        raise SpecMismatch("\n".join([f"{other.root} cannot be merged with {first.root}:", *shown]))
