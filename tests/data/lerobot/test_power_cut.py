"""What a power cut may leave of writes that were not flushed: reopening gives the committed episodes, always.

A `Disk` watches a directory while a writer works. Every operation on names (rename, mkdir, rmdir, remove, open for
writing) and every fsync is a point at which the power may go. What is on disk then is, for each name of each directory,
what it was at the directory's last fsync or anything it has been since, and for each file its content at its own last
fsync, or when that was never or is out of date, nothing, half of it, zeros or all of it, in any combination. That is
worse than a journalling file system: names are lost one by one, and renames may come apart.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinema.core.episode import Episode
from kinema.core.errors import KinemaError
from kinema.core.rng import generator
from kinema.core.spec import RobotSpec
from kinema.data.lerobot import layout
from kinema.data.lerobot.compact import compact
from kinema.data.lerobot.reader import open_dataset
from kinema.data.lerobot.recovery import place_columns, place_prefixes, places
from kinema.data.lerobot.tables import read_episodes
from kinema.data.lerobot.writer import DatasetWriter
from kinema.data.recorder import Recorder
from kinema.data.video import VideoCodec

NAMES = ("os.rename", "os.mkdir", "os.rmdir", "os.remove")
CODEC = VideoCodec(preset="ultrafast")
Entries = dict[str, int]
"""Name -> inode."""


class Disk:
    """The directory `root` as it is, and as much of it as has been flushed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.directories: dict[int, list[Entries]] = {}
        self.flushed: dict[int, bytes] = {}
        self.contents: dict[int, bytes] = {}
        self._held: dict[int, int] = {}
        self.scan()
        self.top = os.stat(root).st_ino
        for number, history in self.directories.items():
            self.directories[number] = history[-1:]
        self.flushed = dict(self.contents)

    def scan(self) -> None:
        """Note what each directory holds now, behind what it held before."""
        for folder, _, _ in os.walk(self.root):
            entries: Entries = {}
            for entry in os.scandir(folder):
                number = entry.inode()
                entries[entry.name] = number
                if number not in self._held:
                    # Held open, so that no later file gets the same number.
                    self._held[number] = os.open(entry.path, os.O_RDONLY)
                if entry.is_file():
                    self.contents[number] = Path(entry.path).read_bytes()
                else:
                    self.directories.setdefault(number, [{}])
            history = self.directories.setdefault(os.stat(folder).st_ino, [{}])
            if history[-1] != entries:
                history.append(entries)

    def flush(self, number: int) -> None:
        """Note that the file or directory with this inode is on disk as it is now."""
        if number in self.directories:
            self.directories[number] = self.directories[number][-1:]
        elif number in self.contents:
            self.flushed[number] = self.contents[number]

    def close(self) -> None:
        for number in self._held.values():
            os.close(number)

    def after_a_cut(self, rng: np.random.Generator | str) -> dict[str, bytes | None]:
        """Return one thing that may be on the disk: the content of each file, None for a directory.

        `rng` "old" keeps only what is flushed, "new" keeps all names and loses contents, "all" keeps everything.
        """
        state: dict[str, bytes | None] = {}
        self._walk(self.top, "", rng, state, set())
        return state

    def _walk(
        self, number: int, path: str, rng: np.random.Generator | str, state: dict[str, bytes | None], seen: set[int]
    ) -> None:
        history = self.directories[number]
        for name in sorted({name for entries in history for name in entries}):
            choices = list(dict.fromkeys(entries.get(name) for entries in history))
            child = choices[_choose(len(choices), rng)]
            if child is None or child in seen:
                continue
            if child in self.directories:
                state[path + name] = None
                self._walk(child, f"{path}{name}/", rng, state, seen | {child})
            else:
                state[path + name] = self._content(child, rng)

    def _content(self, number: int, rng: np.random.Generator | str) -> bytes:
        whole = self.contents[number]
        flushed = self.flushed.get(number, b"")
        if flushed == whole:
            return whole
        choices = (flushed, whole[: len(whole) // 2], bytes(len(whole)), whole)
        return choices[(0 if rng == "new" else _choose(4, rng))]


def _choose(count: int, rng: np.random.Generator | str) -> int:
    if isinstance(rng, str):
        return 0 if rng == "old" else count - 1
    return int(rng.integers(count))


@contextmanager
def watched(root: Path, cut: Callable[[Disk], None], *, flush: bool = True) -> Iterator[None]:
    """Call `cut` with the disk before each operation of what runs inside; without `flush`, an fsync does nothing."""
    disk, active, real = Disk(root), [True], os.fsync

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[1], str) and arguments[1][0] in "wxa"
        if not active or not (event in NAMES or writes) or not str(arguments[0]).startswith(str(root)):
            return
        look()

    def look() -> None:
        active.clear()
        disk.scan()
        cut(disk)
        active.append(True)

    def fsync(number: int) -> None:
        if active:
            look()
            if flush:
                disk.flush(os.fstat(number).st_ino)

    sys.addaudithook(hook)
    os.fsync = fsync
    try:
        yield
        look()
    finally:
        os.fsync = real
        active.clear()
        disk.close()


class Trial:
    """Builds what cuts may leave and opens it."""

    def __init__(self, folder: Path, spec: RobotSpec, expected: list[Episode], samples: int) -> None:
        self.folder, self.spec, self.expected, self.samples = folder, spec, expected, samples
        self.committed = 0
        self.cuts = self.states = 0
        self.failures: list[str] = []
        self._known: set[int] = set()
        self._old = os.fsync

    def cut(self, disk: Disk) -> None:
        self.cuts += 1
        kinds: list[Any] = ["old", "new", "all"]
        kinds += [generator("power-cut", self.cuts, sample) for sample in range(self.samples)]
        patched, os.fsync = os.fsync, lambda number: None
        try:
            for kind in kinds:
                state = disk.after_a_cut(kind)
                identity = hash((self.committed, *sorted(state.items(), key=str)))
                if identity not in self._known:
                    self._known.add(identity)
                    self.states += 1
                    self._check(state, f"cut {self.cuts} {kind}")
        finally:
            os.fsync = patched

    def _check(self, state: dict[str, bytes | None], name: str) -> None:
        root = self.folder / f"{self.states:05d}"
        root.mkdir(parents=True)
        for path, content in state.items():
            if content is None:
                (root / path).mkdir(exist_ok=True)
            else:
                (root / path).write_bytes(content)
        try:
            found = len(DatasetWriter(root, self.spec))
            if not self.committed <= found <= self.committed + 1:
                raise KinemaError(f"{found} episodes, {self.committed} were committed")
            if found:
                dataset = open_dataset(root)
                have = [dataset.column("action")[e.start : e.start + e.length] for e in dataset.episodes]
                if not all(np.array_equal(a, e.frames["action"]) for a, e in zip(have, self.expected, strict=False)):
                    raise KinemaError("an episode is not what was recorded")
                _look_at_videos(root, found, self.spec)
        except KinemaError as error:
            self.failures.append(f"{name}: {error}")


def _look_at_videos(root: Path, episodes: int, spec: RobotSpec) -> None:
    prefixes = place_prefixes(layout.feature_key(camera.key) for camera in spec.observation.cameras)
    for row in read_episodes(root, episodes, ("episode_index", *place_columns(prefixes))):
        for path in places(row, prefixes):
            if path.endswith(".mp4") and not ((root / path).is_file() and b"moov" in (root / path).read_bytes()):
                raise KinemaError(f"{path} is not whole, for episode {row['episode_index']}")


@pytest.fixture
def small(spec: RobotSpec) -> RobotSpec:
    observation = replace(spec.observation, cameras=spec.observation.cameras[1:], vectors=spec.observation.vectors[:1])
    return replace(spec, observation=observation)


@pytest.fixture
def episodes(small: RobotSpec, make_episode: Callable[..., Episode]) -> list[Episode]:
    keys = ("image.wrist", "vector.proprioception", "action")
    made = [make_episode(index, 2) for index in range(4)]
    return [replace(episode, frames={key: episode.frames[key] for key in keys}) for episode in made]


def appended(tmp_path: Path, small: RobotSpec, episodes: list[Episode], samples: int, *, flush: bool = True) -> Trial:
    """Return the trial of a writer that commits an episode, is stopped in a second, reopens and commits that."""
    root, trial = tmp_path / "d", Trial(tmp_path / "cuts", small, episodes, samples)
    root.mkdir()
    with watched(root, trial.cut, flush=flush):
        writer = DatasetWriter(root, small, codec=CODEC)
        trial.committed = writer.append(episodes[0]) + 1
        writer.begin().release()
        trial.committed = DatasetWriter(root, small).append(episodes[1]) + 1
    return trial


def test_appending(tmp_path: Path, small: RobotSpec, episodes: list[Episode]) -> None:
    trial = appended(tmp_path, small, episodes, samples=1)
    assert trial.failures == []
    assert trial.cuts > 50 and trial.states > 50


@pytest.mark.slow
def test_appending_in_many_ways(tmp_path: Path, small: RobotSpec, episodes: list[Episode]) -> None:
    trial = appended(tmp_path, small, episodes, samples=50)
    assert trial.failures == [] and trial.states > 1000


def test_the_check_sees_missing_flushes(tmp_path: Path, small: RobotSpec, episodes: list[Episode]) -> None:
    """The same writer on a disk whose fsync does nothing loses committed episodes: the check is not blind."""
    trial = appended(tmp_path, small, episodes, samples=0, flush=False)
    assert trial.failures


def test_recording(tmp_path: Path, small: RobotSpec, episodes: list[Episode]) -> None:
    root, trial = tmp_path / "d", Trial(tmp_path / "cuts", small, episodes, 1)
    recorder, episode = Recorder(root, small, codec=CODEC), episodes[0]
    with watched(root, trial.cut):
        recorder.begin(episode.instruction)
        for row in range(len(episode)):
            observation = {key: episode.frames[key][row] for key in ("image.wrist", "vector.proprioception")}
            captured = dict.fromkeys((*observation, "action"), row)
            recorder.step(observation, episode.frames["action"][row], captured)
        trial.committed = recorder.commit(True) + 1
    assert trial.failures == [] and trial.states > 20


def test_compaction(tmp_path: Path, small: RobotSpec, episodes: list[Episode]) -> None:
    root, trial = tmp_path / "d", Trial(tmp_path / "cuts", small, episodes, 1)
    writer = DatasetWriter(root, small, codec=CODEC)
    for episode in episodes[:2]:
        trial.committed = writer.append(episode) + 1
    with watched(root, trial.cut):
        compact(root)
    assert trial.failures == [] and trial.states > 20
