"""Edit a dataset: split, merge, delete, rename, remove, add, retask or reencode, into a new directory or in place."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from kinema.cli.progress import progress
from kinema.core.errors import KinemaError, nearest, unknown

if TYPE_CHECKING:
    from kinema.data.edit.plan import Plan
    from kinema.data.lerobot.reader import Dataset

_NEEDS: Mapping[str, tuple[str, ...]] = {
    "split": ("parts",),
    "merge": (),
    "delete": ("episodes",),
    "rename": ("feature", "to"),
    "remove": ("feature",),
    "add": ("values", "feature", "components", "units", "frame"),
    "retask": ("to",),
    "reencode": (),
}
_MAY: Mapping[str, tuple[str, ...]] = {
    "split": ("seed",),
    "retask": ("task", "episodes"),
    "add": ("rotation",),
    "reencode": ("encoder", "pixel_format", "crf", "gop"),
}
_OWN = tuple(dict.fromkeys(name for table in (_NEEDS, _MAY) for names in table.values() for name in names))


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Make a dataset of others, whole or not at all; videos are linked or cut without decoding, save by reencode.

    split --parts train=0.8,test=0.2 | merge A B | delete --episodes 3,7-9 | rename --feature image.front --to top |
    remove --feature vector.force | add --feature vector.force --values f.npy --components x --units N --frame tool |
    retask --to TEXT [--task OLD] [--episodes ...] | reencode --crf 20
    """

    operation: Annotated[str, tyro.conf.Positional]
    """split, merge, delete, rename, remove, add, retask or reencode"""
    directories: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """the dataset; for merge, two or more"""
    out: Path | None = None
    """directory of the new dataset, which must not exist; of split, the directory that holds the parts"""
    in_place: bool = False
    """take the dataset's place instead; the old one is kept beside it as DIRECTORY.before-OPERATION"""
    keep: bool = True
    """with --in-place: keep the old one"""
    episodes: str | None = None
    """episodes by index: 3,7-9 or all"""
    parts: str | None = None
    """what to split into: names with fractions (train=0.8,test=0.2) or episodes (train=0-39,test=40-49)"""
    seed: int | None = None
    """of which episodes go where with fractions; each task is spread in proportion; 0 when not given"""
    feature: str | None = None
    """camera or vector: image.NAME or vector.NAME"""
    to: str | None = None
    """rename: the new name; retask: the new instruction"""
    task: str | None = None
    """retask: only episodes with this instruction"""
    values: Path | None = None
    """add: a .npy file with one row for each row of the dataset"""
    components: str | None = None
    """add: the vector's components, separated by commas"""
    units: str | None = None
    """add: one unit for each component, separated by commas"""
    frame: str | None = None
    """add: the frame in which the vector is expressed"""
    rotation: str | None = None
    """add: the rotation layout, where the vector holds one"""
    encoder: str | None = None
    """reencode: libx264, libx265 or libsvtav1"""
    pixel_format: str | None = None
    """reencode: yuv444p or yuv420p"""
    crf: int | None = None
    """reencode: quality, 0 (best) to 51"""
    gop: int | None = None
    """reencode: frames per key frame"""

    def run(self) -> int:
        """Write the edited dataset and say what was written; raises KinemaError for options that do not fit."""
        from kinema.data.edit import apply
        from kinema.data.edit.episodes import parse_parts
        from kinema.data.edit.place import recover
        from kinema.data.edit.plan import keep
        from kinema.data.lerobot.reader import open_dataset

        self._check_options()
        for directory in self.directories:
            recover(directory.resolve())
        datasets = [open_dataset(directory) for directory in self.directories]
        if self.operation == "split":
            parts, out = parse_parts(self.parts or "", datasets[0], self.seed), Path(str(self.out))
            plans = {name: keep(datasets[0], chosen) for name, chosen in parts.items()}
            with progress("edit", sum(len(plan.parts) for plan in plans.values())) as tell:
                apply.write_parts(plans, out, lambda done, _: tell(done, "episodes"))
            return _tell({out / name: plan for name, plan in plans.items()})
        plan = self._plan(datasets)
        with progress("edit", len(plan.parts)) as tell:
            if self.in_place:
                apply.replace(plan, lambda done, _: tell(done, "episodes"), keep=self.keep)
            else:
                apply.write_new(plan, Path(str(self.out)), lambda done, _: tell(done, "episodes"))
        return _tell({self.directories[0] if self.in_place else Path(str(self.out)): plan})

    def _check_options(self) -> None:
        if self.operation not in _NEEDS:
            raise unknown("operation", self.operation, _NEEDS)
        needed, given = _NEEDS[self.operation], vars(self)
        allowed = (*needed, *_MAY.get(self.operation, ()))
        for name in needed:
            if given[name] is None:
                raise KinemaError(
                    f"{self.operation} needs {', '.join(map(_option, needed))}; {_option(name)} is missing"
                )
        for name in _OWN:
            if given[name] is not None and name not in allowed:
                shown = ", ".join(map(_option, allowed)) or "no option of its own"
                raise KinemaError(f"{self.operation} has no use for {_option(name)}; it takes {shown}")
        if len(self.directories) != 1 and self.operation != "merge":
            raise KinemaError(f"{self.operation} takes one dataset, not {len(self.directories)}")
        if self.in_place == (self.out is not None):
            raise KinemaError(f"{self.operation}: give either --out DIRECTORY or --in-place")
        if not (self.keep or self.in_place):
            raise KinemaError(f"{self.operation}: --no-keep is of use with --in-place only")
        if self.in_place and self.operation in ("split", "merge"):
            raise KinemaError(f"{self.operation} has no place of its own to write to: give --out DIRECTORY")

    def _plan(self, datasets: list[Dataset]) -> Plan:
        from kinema.data.edit import plan
        from kinema.data.edit.episodes import parse_episodes

        dataset, feature, to = datasets[0], self.feature or "", self.to or ""
        if self.operation == "merge":
            return plan.merge(datasets)
        if self.operation == "delete":
            return plan.delete(dataset, parse_episodes(self.episodes or "", len(dataset.episodes)))
        if self.operation == "rename":
            return plan.rename(dataset, feature, to.removeprefix(f"{feature.partition('.')[0]}."))
        if self.operation == "remove":
            return plan.remove(dataset, feature)
        if self.operation == "add":
            return self._add(dataset)
        if self.operation == "retask":
            return plan.retask(dataset, dict.fromkeys(self._retasked(dataset), to))
        codec = {name: vars(self)[name] for name in _MAY["reencode"] if vars(self)[name] is not None}
        return plan.reencode(dataset, replace(dataset.codec, **codec))

    def _add(self, dataset: Dataset) -> Plan:
        import numpy as np

        from kinema.core.spec import Vector
        from kinema.data.edit.plan import add

        kind, _, name = (self.feature or "").partition(".")
        if kind != "vector" or not name:
            raise KinemaError(f"--feature {self.feature}: only a vector can be added: vector.NAME")
        vector = Vector(
            name=name,
            components=tuple((self.components or "").split(",")),
            units=tuple((self.units or "").split(",")),
            frame=self.frame or "",
            rotation=self.rotation,
        )
        try:
            values = np.load(str(self.values), allow_pickle=False)
        except (OSError, ValueError) as error:
            raise KinemaError(f"cannot read {self.values}: {error}") from error
        return add(dataset, vector, values)

    def _retasked(self, dataset: Dataset) -> list[int]:
        from kinema.data.edit.episodes import parse_episodes

        chosen = parse_episodes("all" if self.episodes is None else self.episodes, len(dataset.episodes))
        if self.task is None:
            return list(chosen)
        found = [index for index in chosen if dataset.episodes[index].instruction == self.task]
        if not found:
            raise KinemaError(f"no chosen episode is told {self.task!r}{nearest(self.task, dataset.tasks)}")
        return found


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _tell(written: Mapping[Path, Plan]) -> int:
    for path, plan in written.items():
        sys.stdout.write(f"{path}: {len(plan.parts)} episodes, {sum(p.record.length for p in plan.parts)} steps\n")
    sys.stdout.write(f"next: kinema data info {next(iter(written))}\n")
    return 0
