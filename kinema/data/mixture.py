"""Several datasets, of one robot or many, as one: common names, own normalisation, common widths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from kinema.core.errors import KinemaError, SpecMismatch, nearest
from kinema.core.spec import ACTION, EMBODIMENT, INSTRUCTION, ActionSpec, Vector
from kinema.core.transform import Chain, Statistics, Transform
from kinema.data.lerobot.episode_stats import of_rows
from kinema.data.windows import Windows, check_indices

Robot = tuple[str, str]
"""Embodiment and kind of action ("joint position", ...): what shares one normalisation."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """The windows of one dataset: `rename` maps its keys to the common ones, then `transform` runs.

    The transform is where the statistics of its own robot enter, see `statistics_by_robot`.
    """

    windows: Windows
    rename: Mapping[str, str] = field(default_factory=dict)
    transform: Transform = field(default_factory=lambda: Chain(()))

    def __post_init__(self) -> None:
        keys = self.windows.spec.observation.keys
        for own, common in self.rename.items():
            if own not in keys:
                raise SpecMismatch(f"{self.name}: no observation {own!r} to rename{nearest(own, keys)}")
            if own.split(".")[0] != common.split(".")[0]:
                raise SpecMismatch(f"{self.name}: {own!r} cannot become {common!r}, which is of another kind")
        named = [self.common(key) for key in keys]
        if len(set(named)) != len(named):
            raise SpecMismatch(f"{self.name}: two observations would have one name: {', '.join(sorted(named))}")

    @property
    def name(self) -> str:
        """What errors call this part: the name of its dataset's directory."""
        return self.windows.dataset.root.name

    @property
    def robot(self) -> Robot:
        """Whose statistics normalise this part."""
        return self.windows.spec.embodiment, self.windows.spec.action.kind

    def common(self, key: str) -> str:
        """Return the common name of one of this part's keys."""
        return self.rename.get(key, key)

    def sample(self, indices: np.ndarray) -> Mapping[str, Any]:
        """Return the windows `indices` under the common names, transformed."""
        sample = self.windows.batch(indices)
        masks = {f"mask.{own}": f"mask.{common}" for own, common in self.rename.items()}
        return self.transform.forward({masks.get(key, self.common(key)): value for key, value in sample.items()})[0]


class Mixture:
    """The windows of all parts, numbered through in order; `shares.Draws` says which of them make up a batch.

    Actions and vectors are padded with zeros to the widest part; where widths differ, `components.<key>` (B, D) bool
    says which are real, and the loss counts no others. Images must agree in size. A camera or vector that a part lacks
    is an error, or with missing="zeros" black or zero: `present.<key>` (B,) bool and `components.<key>` say where.
    Parts of several embodiments add `embodiment`, a list of B names.
    """

    def __init__(self, parts: Sequence[Part], *, missing: Literal["error", "zeros"] = "error") -> None:
        if not parts:
            raise KinemaError("a mixture of no datasets")
        self.parts = tuple(parts)
        self.sizes = tuple(len(part.windows) for part in parts)
        self._first = np.concatenate([[0], np.cumsum(self.sizes)])
        probes = [part.sample(np.array([0])) for part in parts]
        names = [part.name for part in parts]
        keys = dict.fromkeys(key for probe in probes for key in probe)
        self._columns = {key: _column(key, names, probes, missing) for key in keys}

    def __len__(self) -> int:
        return sum(self.sizes)

    def batch(self, indices: np.ndarray) -> dict[str, Any]:
        """Return the windows `indices` (B,) as a sample, in their order whatever part they are of."""
        indices = check_indices(indices, len(self))
        owner = np.searchsorted(self._first, indices, side="right") - 1
        made: dict[str, Any] = {}
        for column in self._columns.values():
            made |= column.empty(len(indices))
        for number in np.unique(owner):
            where = np.flatnonzero(owner == number)
            sample = self.parts[number].sample(indices[where] - self._first[number])
            for key, value in sample.items():
                self._columns[key].put(made, where, value)
        if INSTRUCTION in made:
            made[INSTRUCTION] = list(made[INSTRUCTION])
        embodiments = [part.windows.spec.embodiment for part in self.parts]
        if len(set(embodiments)) > 1:
            made[EMBODIMENT] = [embodiments[number] for number in owner]
        return made


@dataclass(frozen=True, kw_only=True)
class _Column:
    """Where the values of one key go; `mark` is the key that says what of them is real, or None where all is."""

    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    mark: str | None

    def empty(self, batch: int) -> dict[str, np.ndarray]:
        made = {self.key: np.zeros((batch, *self.shape), self.dtype)}
        if self.mark is not None:
            made[self.mark] = np.zeros((batch, self.shape[-1]) if _padded(self.key) else batch, bool)
        return made

    def put(self, made: dict[str, Any], where: np.ndarray, value: Any) -> None:
        if _padded(self.key):
            made[self.key][where, ..., : value.shape[-1]] = value
            if self.mark is not None:
                made[self.mark][where, : value.shape[-1]] = True
        else:
            made[self.key][where] = value
            if self.mark is not None:
                made[self.mark][where] = True


def _column(key: str, names: Sequence[str], probes: Sequence[Mapping[str, Any]], missing: str) -> _Column:
    """Return the column that holds `key` of all parts; `probes` are one window of each of the parts `names`."""
    can_lack = _padded(key) or key.startswith("image.")
    for name, probe in zip(names, probes, strict=True):
        if key not in probe and not (can_lack and missing == "zeros"):
            raise SpecMismatch(f"{name} has no {key!r}{nearest(key, probe)}; it has: {', '.join(probe)}")
    if key == INSTRUCTION:
        return _Column(key=key, shape=(), dtype=np.dtype(object), mark=None)
    given = [(name, probe[key][0]) for name, probe in zip(names, probes, strict=True) if key in probe]
    first_name, first = given[0]
    common = slice(None, -1) if _padded(key) else slice(None)
    for name, value in given:
        if value.shape[common] != first.shape[common] or value.dtype != first.dtype:
            raise SpecMismatch(
                f"{key} is {first.shape} {first.dtype} in {first_name}, but {value.shape} {value.dtype} in {name}; "
                "make them alike first"
            )
    partial, shape = len(given) < len(names), first.shape
    if _padded(key):
        widths = {value.shape[-1] for _, value in given}
        partial, shape = partial or len(widths) > 1, (*shape[:-1], max(widths))
    kind = "components" if _padded(key) else "present"
    return _Column(key=key, shape=shape, dtype=first.dtype, mark=f"{kind}.{key}" if partial else None)


def _padded(key: str) -> bool:
    return key == ACTION or key.startswith("vector.")


def statistics_by_robot(parts: Sequence[Part]) -> Mapping[Robot, Statistics]:
    """Return the statistics of each (embodiment, kind of action) over all rows of its parts, under the common names.

    As `data.stats.statistics` of one dataset with the rows of all; vectors that not all its parts have are left out.
    Parts of one robot whose action or vectors differ in components, units or conventions are a SpecMismatch.
    """
    groups: dict[Robot, list[Part]] = {}
    for part in parts:
        groups.setdefault(part.robot, []).append(part)
    return {robot: _pooled(robot, group) for robot, group in groups.items()}


def _pooled(robot: Robot, parts: Sequence[Part]) -> Statistics:
    tables = [_columns(part) for part in parts]
    found = {}
    for key, (meaning, _) in tables[0].items():
        if not all(key in table for table in tables):
            continue
        for part, table in zip(parts, tables, strict=True):
            if table[key][0] != meaning:
                raise SpecMismatch(
                    f"{part.name} and {parts[0].name} are both {' with '.join(robot)}, but mean different things by "
                    f"{key!r}: {table[key][0]!r:.300}, {meaning!r:.300}"
                )
        rows = np.concatenate(
            [
                part.windows.dataset.column(table[key][1])[part.windows.rows]
                for part, table in zip(parts, tables, strict=True)
            ]
        )
        found[key] = {name: value.astype(np.float64) for name, value in of_rows(rows).items()}
    return found


def _columns(part: Part) -> dict[str, tuple[Vector | ActionSpec, str]]:
    """Return for each common key of a vector or the action what it means, but for its name, and the dataset's key."""
    spec = part.windows.spec
    named = {part.common(v.key): (replace(v, name=""), v.key) for v in spec.observation.vectors}
    return {**named, ACTION: (spec.action, ACTION)}
