"""Plans made into datasets on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kinema.core.errors import DataError, KinemaError
from kinema.data.edit.place import new_directory, replaced
from kinema.data.edit.plan import Plan
from kinema.data.edit.write import Progress, write
from kinema.data.lerobot.meaning import meaning
from kinema.data.lerobot.versions import read_view


def write_new(plan: Plan, out: Path, progress: Progress | None = None) -> None:
    """Write the planned dataset to `out`, which must not exist; it appears there whole, or not at all."""
    with new_directory(out) as folder:
        write(plan, folder, progress)


def write_parts(plans: Mapping[str, Plan], out: Path, progress: Progress | None = None) -> None:
    """Write one dataset for each name to `out/<name>`; `out` must not exist and appears with all of them."""
    for name in plans:
        if name in ("", ".", "..") or "/" in name:
            raise KinemaError(f"a part cannot be called {name!r}: its name is a directory's")
    total, before = sum(len(plan.parts) for plan in plans.values()), 0
    with new_directory(out) as folder:
        for name, plan in plans.items():
            (folder / name).mkdir()
            write(plan, folder / name, _shifted(progress, before, total))
            before += len(plan.parts)


def replace(plan: Plan, progress: Progress | None = None, *, keep: bool = True) -> None:
    """Exchange the plan's one source for the planned dataset; the old one is kept beside it unless told otherwise.

    It is called `<directory>.before-<operation>`. A crash leaves one or the other under the name.
    """
    sources = {part.dataset.root: part.dataset for part in plan.parts}
    if len(sources) != 1:
        raise KinemaError(f"only one dataset can be edited in place, not {len(sources)}")
    ((root, dataset),) = sources.items()
    with replaced(root, plan.operation, keep=keep) as folder:
        now = read_view(root)
        if now != dataset.view or meaning(now, dataset.meaning.card).provenance != dataset.provenance:
            raise DataError(f"{root} is not as it was when it was opened: open it again")
        write(plan, folder, progress)


def _shifted(progress: Progress | None, before: int, total: int) -> Progress | None:
    return None if progress is None else lambda done, _: progress(before + done, total)
