"""A directory that appears whole under its name, or takes another's place in one step.

It is built as `<name>.partial-<pid>` beside its place. A file `.edit` in it says how far things are, so that whoever
comes after a crash can tell a half directory (removed) from a whole one (put in its place) and from the one that was
replaced (kept as `<name>.before-<operation>`). It is removed last.

Replacing exchanges two names in one step with Linux's renameat2. Elsewhere, and on file systems that cannot, the old
directory is first renamed to its new name and then the new one to its place; a crash between the two leaves no
directory under the name until `recover`, which every later edit and writer calls first, finishes.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from kinema.core.errors import DataError, KinemaError
from kinema.core.files import sync_directory, write_text
from kinema.data.edit.carry_over import carry_over
from kinema.data.lerobot.files import LOCK, STAGING, lock, reported

MARK = ".edit"
_OF_THE_DATASET = ("meta", "data", "videos", LOCK, STAGING, ".cache", MARK)
_AT_FDCWD, _NO_REPLACE, _EXCHANGE = -100, 1, 2
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)


@contextlib.contextmanager
def new_directory(out: Path) -> Iterator[Path]:
    """Yield an empty directory that becomes `out` when the block ends well, and vanishes when it does not.

    Raises KinemaError when `out` exists, before or after the block.
    """
    out = Path(os.path.abspath(out))
    recover(out)
    _refuse(out)
    with _building(out) as partial:
        yield partial
        with reported(out):
            _finish(partial, "new")
            if not _renameat2(partial, out, _NO_REPLACE):
                _refuse(out)
                os.rename(partial, out)
            _settle(out)


@contextlib.contextmanager
def replaced(directory: Path, operation: str, *, keep: bool = True) -> Iterator[Path]:
    """Yield an empty directory that takes the place of `directory` when the block ends well.

    The old one is kept as `<name>.before-<operation>`, with a number when that is taken, unless `keep` is False.
    Nobody can append to it meanwhile.
    """
    directory = directory.resolve()
    recover(directory)
    with reported(directory), lock(directory), _building(directory) as partial:
        yield partial
        before = _free(directory.with_name(f"{directory.name}.before-{operation}"))
        carry_over(directory, partial, _OF_THE_DATASET)
        (partial / LOCK).touch()
        _finish(partial, before.name)
        if _renameat2(partial, directory, _EXCHANGE):
            os.rename(partial, before)
        else:
            _exchange(directory, partial, before)
        _settle(directory)
        if not keep:
            shutil.rmtree(before)


def _exchange(directory: Path, partial: Path, before: Path) -> None:
    try:
        os.rename(directory, before)
        sync_directory(directory.parent)
        os.rename(partial, directory)
    except BaseException:
        if not directory.exists():
            os.rename(before, directory)
        raise


def recover(directory: Path) -> None:
    """Finish or take back what a killed edit left beside `directory`; what a living process builds stays."""
    mark = directory / MARK
    if mark.is_file():
        pid, before = _read(mark)
        if _alive(pid):
            raise KinemaError(f"{directory} is being edited by process {pid}; wait until it ends")
        old = directory.with_name(f"{directory.name}.partial-{pid}")
        if before != "new" and old.is_dir() and not (old / MARK).is_file():
            os.rename(old, directory.with_name(before))
        _settle(directory)
    for partial in sorted(directory.parent.glob(f"{_escaped(directory.name)}.partial-*")):
        if not (partial / MARK).is_file():
            if _unbegun(partial):
                shutil.rmtree(partial)
            continue
        pid, state = _read(partial / MARK)
        if _alive(pid):
            continue
        if not directory.exists() and state not in ("building", "new") and directory.with_name(state).is_dir():
            os.rename(partial, directory)
            _settle(directory)
        else:
            shutil.rmtree(partial)


def _unbegun(partial: Path) -> bool:
    """Return whether a process was killed before it marked this directory, which holds nothing yet then."""
    pid = partial.name.rpartition("-")[2]
    begun = any(not path.name.startswith(f".{MARK}.") for path in partial.iterdir())
    return pid.isdigit() and not _alive(int(pid)) and not begun


@contextlib.contextmanager
def _building(out: Path) -> Iterator[Path]:
    if not out.parent.is_dir():
        with reported(out):
            out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f"{out.name}.partial-{os.getpid()}")
    with reported(partial):
        partial.mkdir()
        _write(partial / MARK, "building")
    try:
        yield partial
    finally:
        # After a crash of the block; when it ended well the name is gone. A whole one is left to `recover` when nothing
        # has the name that it is to take.
        if (partial / MARK).is_file() and (out.exists() or _read(partial / MARK)[1] in ("building", "new")):
            shutil.rmtree(partial)


def _finish(partial: Path, state: str) -> None:
    _write(partial / MARK, state)
    sync_directory(partial)


def _settle(directory: Path) -> None:
    """Make the new names durable, then forget the edit."""
    sync_directory(directory.parent)
    (directory / MARK).unlink()
    sync_directory(directory)


def _write(mark: Path, state: str) -> None:
    write_text(mark, f"{os.getpid()} {state}\n")


def _read(mark: Path) -> tuple[int, str]:
    pid, _, state = mark.read_text("utf-8").strip().partition(" ")
    if not pid.isdigit() or not state or "/" in state:
        raise DataError(f"{mark} is not the mark of an edit; remove it, or the directory that holds it")
    return int(pid), state


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        # The number of a process that ended before this one began: containers deal the same ones again.
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _free(path: Path) -> Path:
    number, free = 2, path
    while free.exists():
        free, number = path.with_name(f"{path.name}-{number}"), number + 1
    return free


def _refuse(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise KinemaError(f"{out} exists; choose another place, or remove it first")


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _renameat2(source: Path, target: Path, flag: int) -> bool:
    """Rename with Linux's flags; returns False where the system or file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return False
    if function(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), ctypes.c_uint(flag)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    if number == errno.EEXIST:
        raise KinemaError(f"{target} exists; choose another place, or remove it first")
    raise OSError(number, os.strerror(number), str(target))
