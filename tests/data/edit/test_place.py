"""A killed edit leaves the source as it was and no half dataset under the new name, wherever it is killed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kinema.core.errors import KinemaError
from kinema.core.spec import Vector
from kinema.data.edit import place
from kinema.data.edit import plan as edit
from kinema.data.edit.apply import replace as replace_dataset
from kinema.data.edit.apply import write_new
from kinema.data.lerobot.reader import Dataset, open_dataset
from kinema.data.lerobot.writer import DatasetWriter

KILLED = """
import os, sys
from pathlib import Path
source, out, in_place, exchange, after = sys.argv[1:]
left = int(after)
os.fsync = lambda number: None

def hook(event, arguments):
    # Every change of the disk is one step; the process dies before step `after`.
    global left
    changes = event in ("os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "exchange")
    changes = changes or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR))
    if changes and active:
        left -= 1
        if left < 0:
            os._exit(137)

active = False
from kinema.data.edit import place, plan
from kinema.data.edit.apply import replace, write_new
from kinema.data.lerobot.reader import open_dataset
if exchange == "no":
    place._renameat2 = lambda *_: False
else:
    real = place._renameat2
    def renameat2(*arguments):
        sys.audit("exchange")
        return real(*arguments)
    place._renameat2 = renameat2
dataset = open_dataset(Path(source))
made = plan.delete(dataset, (0,))
dataset.content_hash
sys.addaudithook(hook)
active = True
if in_place == "yes":
    replace(made)
else:
    write_new(made, Path(out))
active = False
os._exit(0)
"""


VECTOR = Vector(name="n", components=("n",), units=("1",), frame="none")


def _killed(source: Path, out: Path, *, in_place: bool, exchange: bool, after: int) -> int:
    arguments = [str(source), str(out), "yes" if in_place else "no", "yes" if exchange else "no", str(after)]
    return subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False).returncode


def _content(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.relative_to(root).parts[0].startswith("."):
            digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def _copy(dataset: Dataset, root: Path) -> None:
    write_new(edit.keep(dataset, range(len(dataset.episodes))), root)


def _check_killed(source: Path, check: Callable[..., Dataset], model: Any, *, in_place: bool, exchange: bool,
                  after: int) -> bool:  # fmt: skip
    """Kill an edit of `source` before its change `after`; returns whether it was killed."""
    before, out = _content(source), source.with_name("out")
    edited = replace(model, episodes=model.episodes[1:])
    code = _killed(source, out, in_place=in_place, exchange=exchange, after=after)
    assert code in (0, 137)
    if in_place:
        place.recover(source)
        done = _content(source) != before
        check(source, edited if done else model)
        assert done or code
        olds = list(source.parent.glob(f"{source.name}.before-*"))
        assert [_content(old) for old in olds if done] == [before] * done
    else:
        assert _content(source) == before
        if out.exists():
            check(out, edited)
        place.recover(out)
        assert out.exists() or code
    assert not list(source.parent.glob("*.partial-*")) and not list(source.parent.glob("*/.edit"))
    return code == 137


@pytest.mark.parametrize("after", [0, 7, 31])
def test_killed_while_a_new_dataset_is_made(
    after: int, timed: tuple[Dataset, Any], check: Callable[..., Dataset], tmp_path: Path
) -> None:
    _copy(timed[0], tmp_path / "d")
    assert _check_killed(tmp_path / "d", check, timed[1], in_place=False, exchange=True, after=after)


@pytest.mark.slow
@pytest.mark.parametrize(("in_place", "exchange"), [(False, True), (False, False), (True, True), (True, False)])
def test_killed_at_every_change_of_the_disk(
    in_place: bool, exchange: bool, timed: tuple[Dataset, Any], check: Callable[..., Dataset], tmp_path: Path
) -> None:
    after, killed = 0, True
    while killed:
        _copy(timed[0], tmp_path / str(after) / "d")
        killed = _check_killed(
            tmp_path / str(after) / "d", check, timed[1], in_place=in_place, exchange=exchange, after=after
        )
        after += 1
    assert after > 20


@pytest.mark.parametrize("exchange", [True, False])
def test_killed_between_the_last_steps_in_place(
    exchange: bool, timed: tuple[Dataset, Any], check: Callable[..., Dataset], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The state after the exchange (or first rename) and before the next step is finished by whoever comes next."""
    _copy(timed[0], tmp_path / "d")
    source, before = tmp_path / "d", _content(tmp_path / "d")
    dead = 2**22 + 1
    monkeypatch.setattr(os, "getpid", lambda: dead)
    if not exchange:
        monkeypatch.setattr(place, "_renameat2", lambda *_: False)
    real, calls = os.rename, []

    def rename(a: Path, b: Path) -> None:
        calls.append(b)
        if len(calls) >= (1 if exchange else 2):
            raise KeyboardInterrupt
        real(a, b)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        replace_dataset(edit.delete(open_dataset(source), (0,)))
    monkeypatch.undo()
    assert source.exists() == exchange and list(tmp_path.glob("d.partial-*"))
    writer = DatasetWriter(source, timed[0].spec)
    assert len(writer) == len(timed[1].episodes) - 1, "a writer finishes the edit too, and makes no new dataset there"
    check(source, replace(timed[1], episodes=timed[1].episodes[1:]))
    assert _content(tmp_path / "d.before-delete") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "d.before-delete"]


def test_interrupted_between_two_renames(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where names cannot be exchanged in one step, an interrupt puts the old directory back."""
    _copy(dataset, tmp_path / "d")
    before, real, calls = _content(tmp_path / "d"), os.rename, []

    def rename(a: Path, b: Path) -> None:
        calls.append(b)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(a, b)

    monkeypatch.setattr(place, "_renameat2", lambda *_: False)
    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        replace_dataset(edit.delete(open_dataset(tmp_path / "d"), (0,)))
    assert _content(tmp_path / "d") == before and [path.name for path in tmp_path.iterdir()] == ["d"]


def test_what_is_not_the_datasets_stays(dataset: Dataset, tmp_path: Path) -> None:
    root = tmp_path / "d"
    _copy(dataset, root)
    (root / "README.md").write_text("about")
    for name in (".git/objects", ".quarantine/0000", ".cache", ".staging"):
        (root / name).mkdir(parents=True)
        (root / name / "file").write_text(name)
    (root / ".git/objects/file").chmod(0o444)
    (root / "latest").symlink_to("README.md")
    replace_dataset(edit.delete(open_dataset(root), (0,)), keep=False)
    assert [path.name for path in tmp_path.iterdir()] == ["d"]
    names = sorted(path.name for path in root.iterdir())
    assert names == [".git", ".lock", ".quarantine", "README.md", "data", "latest", "meta", "videos"]
    assert (root / "README.md").read_text() == "about" and (root / "latest").is_symlink()
    assert (root / ".git/objects/file").read_text() == ".git/objects"


def test_a_linked_video_is_not_a_link_to_a_link(dataset: Dataset, tmp_path: Path) -> None:
    _copy(dataset, tmp_path / "d")
    for video in (tmp_path / "d").rglob("*.mp4"):
        target = video.with_name(f"blob-{video.name}")
        video.rename(target)
        video.symlink_to(target.name)
    _copy(open_dataset(tmp_path / "d"), tmp_path / "out")
    made = list((tmp_path / "out").rglob("*.mp4"))
    assert made and not any(path.is_symlink() for path in made)


def test_an_error_leaves_nothing(dataset: Dataset, tmp_path: Path) -> None:
    plan = edit.add(dataset, VECTOR, lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        write_new(plan, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_appeared_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(KinemaError, match="out exists"), place.new_directory(tmp_path / "out"):
        (tmp_path / "out").mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_living_process_builds_stays(tmp_path: Path) -> None:
    partial = tmp_path / f"out.partial-{os.getppid()}"
    partial.mkdir()
    (partial / place.MARK).write_text(f"{os.getppid()} building\n")
    place.recover(tmp_path / "out")
    assert partial.exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / place.MARK).write_text(f"{os.getppid()} out.before-x\n")
    with pytest.raises(KinemaError, match=f"is being edited by process {os.getppid()}"):
        place.recover(tmp_path / "out")
