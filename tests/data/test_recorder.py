"""A loop that records never waits, and no frame is ever at another's place."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from kinema.core.errors import DataError, KinemaError, SpecMismatch, UnavailableError
from kinema.data.lerobot import files
from kinema.data.lerobot.draft import DraftVideo
from kinema.data.lerobot.reader import open_dataset
from kinema.data.lerobot.writer import DatasetWriter
from kinema.data.recorder import Recorder
from kinema.data.recording import Recording
from kinema.data.video import decode

BENCHMARKS = str(Path(__file__).resolve().parents[2] / "benchmarks")
if BENCHMARKS not in sys.path:
    sys.path.insert(0, BENCHMARKS)

from recorder_kill import CODEC, HEIGHT, ROWS, WIDTH, check, kills, lost, record, robot, stamp, stamped  # noqa: E402

KEYS = ("image.front", "image.wrist", "vector.proprioception", "action")


def new(root: Path, **options: Any) -> Recorder:
    return Recorder(root, robot(), codec=CODEC, **options)


def step(recorder: Recorder, row: int, front: np.ndarray | None, wrist: np.ndarray | None) -> None:
    values = np.array([0, row], np.float32)
    observation = {"image.front": front, "image.wrist": wrist, "vector.proprioception": values}
    recorder.step(observation, values, dict.fromkeys(KEYS, 100 + row))


def seen(root: Path, camera: str, number: int = 0) -> list[tuple[int, int, int] | None]:
    path = root / f"videos/observation.images.{camera}/chunk-000/file-{number:03d}.mp4"
    return [stamped(frame) for frame in decode(path, size=(HEIGHT, WIDTH))]


def column(root: Path, name: str) -> list[Any]:
    return pq.read_table(root / "data/chunk-000/file-000.parquet")[name].to_pylist()


def test_what_is_recorded(tmp_path: Path) -> None:
    with new(tmp_path / "d") as recorder:
        assert [record(recorder, index) for index in range(2)] == [0, 1]
        assert recorder.problem is None and recorder.lost == {"image.front": 0, "image.wrist": 2}
    assert check(tmp_path / "d", 2, since=0) == 2 * ROWS
    assert column(tmp_path / "d", "captured_ns.action") == [1000 + row for row in range(ROWS)]
    wrist = [1000 + row - lost(1, row) for row in range(ROWS)]
    assert column(tmp_path / "d", "captured_ns.observation.images.wrist") == wrist
    assert column(tmp_path / "d", "valid.observation.images.front") == [True] * ROWS
    assert open_dataset(tmp_path / "d").episodes[1].instruction == "task 1"


def test_a_recorded_episode_equals_an_appended_one(tmp_path: Path) -> None:
    """The files, byte for byte: recording as it goes and writing at once are one protocol."""
    recorder = new(tmp_path / "a")
    recorder.begin("a task", origin={"n": 1})
    images = [stamp(0, 0, row) for row in range(5)]
    for row in range(5):
        step(recorder, row, images[row], images[row])
    recording = recorder._opened()
    rows = recording.rows(True)
    recorder.commit(True)
    frames = {**rows.frames, "image.front": np.stack(images), "image.wrist": np.stack(images)}
    episode = type(rows)(**{**vars(rows), "frames": frames, "origin": {"n": 1}})
    DatasetWriter(tmp_path / "b", robot(), codec=CODEC, captured=KEYS, valid=KEYS[:2]).append(episode)
    names = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*") if p.is_file())
    assert len(names) > 6
    for name in names:
        if name.name != ".lock":
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_a_lost_frame_moves_no_other(tmp_path: Path) -> None:
    recorder = new(tmp_path / "d", queue_frames=64)
    gaps = {0, 1, 5, 6, 7, 11}
    recorder.begin("a task")
    for row in range(12):
        step(recorder, row, stamp(0, 0, row), None if row in gaps else stamp(0, 1, row))
    assert recorder.lost == {"image.front": 0, "image.wrist": 6}
    recorder.commit(True)
    assert seen(tmp_path / "d", "front") == [(0, 0, row) for row in range(12)]
    shown = [None, None, 2, 3, 4, 4, 4, 4, 8, 9, 10, 10]
    assert seen(tmp_path / "d", "wrist") == [None if row is None else (0, 1, row) for row in shown]
    assert column(tmp_path / "d", "valid.observation.images.wrist") == [row not in gaps for row in range(12)]
    times = column(tmp_path / "d", "captured_ns.observation.images.wrist")
    assert times == [0, 0, 102, 103, 104, 104, 104, 104, 108, 109, 110, 110]


def test_an_overloaded_encoder_loses_frames_not_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three episodes with an encoder ten times too slow: each row shows its own frame or is marked invalid."""
    write = DraftVideo.write

    def slow(self: DraftVideo, image: np.ndarray) -> None:
        time.sleep(0.01)
        write(self, image)

    monkeypatch.setattr(DraftVideo, "write", slow)
    recorder, dropped = new(tmp_path / "d", queue_frames=3), 0
    for episode in range(3):
        recorder.begin("a task")
        for row in range(40):
            step(recorder, row, stamp(episode, 0, row), stamp(episode, 1, row))
            time.sleep(0.001)
        dropped += sum(recorder.lost.values())
        recorder.commit(True)
        table = pq.read_table(tmp_path / f"d/data/chunk-000/file-{episode:03d}.parquet")
        for camera, name in enumerate(("front", "wrist")):
            valid = table[f"valid.observation.images.{name}"].to_pylist()
            last = None
            for row, shown in enumerate(seen(tmp_path / "d", name, episode)):
                last = (episode, camera, row) if valid[row] else last
                assert shown == last, (episode, name, row)
    assert dropped > 30


def test_too_many_lost_frames_end_the_episode(tmp_path: Path) -> None:
    recorder = new(tmp_path / "d", max_lost=2)
    recorder.begin("a task")
    for row in range(6):
        step(recorder, row, stamp(0, 0, row), stamp(0, 1, row) if row in (0, 3) else None)
    assert recorder.problem is None
    step(recorder, 6, stamp(0, 0, 6), None)
    assert recorder.problem == "image.wrist: more than 2 frames in a row were lost"
    with pytest.raises(UnavailableError, match=r"the episode was not kept: image\.wrist: more than 2 frames"):
        recorder.commit(True)
    assert "more than 2 frames" in (tmp_path / "d/.quarantine/0000/reason.txt").read_text()
    assert (tmp_path / "d/.quarantine/0000/.staging/ep-000000/observation.images.front.mp4").is_file()
    assert record(recorder, 0) == 0 and check(tmp_path / "d", 1, since=0)


def test_aborted_by_hand(tmp_path: Path) -> None:
    with new(tmp_path / "d") as recorder:
        recorder.begin("a task")
        step(recorder, 0, stamp(0, 0, 0), stamp(0, 1, 0))
        recorder.abort("the cup fell over")
        assert record(recorder, 0) == 0
        recorder.begin("a task")
    reasons = sorted(path.read_text() for path in (tmp_path / "d/.quarantine").glob("*/reason.txt"))
    assert reasons == ["the cup fell over\n", "the recorder was closed before a commit\n"]
    assert not list((tmp_path / "d/.staging").iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image.wirst": None}, r"unexpected 'image\.wirst'; did you mean 'image\.wrist'"),
        (
            {"image.front": np.zeros((4, 4, 3), np.uint8)},
            r"image\.front: shape \(4, 4, 3\) uint8, expected \(32",
        ),
        ({"vector.proprioception": np.zeros(2)}, r"vector\.proprioception: .*float64, expected \(2,\) float32"),
        ({"vector.proprioception": np.array([np.nan, 0], np.float32)}, r"proprioception: not finite: \[nan, 0\.0\]"),
    ],
)
def test_rows_that_do_not_fit(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    recorder = new(tmp_path / "d")
    values = np.zeros(2, np.float32)
    row = {"image.front": stamp(0, 0, 0), "image.wrist": stamp(0, 1, 0), "vector.proprioception": values}
    with pytest.raises(KinemaError, match="no episode is open"):
        recorder.step(row, values, {})
    recorder.begin("a task")
    with pytest.raises(SpecMismatch, match=message):
        recorder.step({**row, **change}, values, dict.fromkeys(KEYS, 5))
    with pytest.raises(SpecMismatch, match=r"captured_ns of 'image\.front' is missing"):
        recorder.step(row, values, {})
    recorder.step(row, values, dict.fromkeys(KEYS, 5))
    with pytest.raises(SpecMismatch, match=r"captured_ns of 'image\.front' goes back: 5, then 4"):
        recorder.step(row, values, dict.fromkeys(KEYS, 4))
    assert recorder.commit(True) == 0 and open_dataset(tmp_path / "d").episodes[0].length == 1


def test_what_cannot_be_kept_is_told_at_once(tmp_path: Path) -> None:
    recorder = new(tmp_path / "d")
    with pytest.raises(SpecMismatch, match="instruction is ' ', expected a non-empty text"):
        recorder.begin(" ")
    with pytest.raises(SpecMismatch, match=r"origin 'seed' is .*numpy\.int64"):
        recorder.begin("a task", origin={"seed": np.int64(1)})
    recorder.begin("a task")
    values = np.zeros(2, np.float32)
    row = {"image.front": stamp(0, 0, 0), "image.wrist": stamp(0, 1, 0), "vector.proprioception": values}
    for time_ns in (0.5, 2**63, True):
        with pytest.raises(SpecMismatch, match=r"'image\.front' is .*, expected whole nanoseconds"):
            recorder.step(row, values, {**dict.fromkeys(KEYS, 5), "image.front": time_ns})
    recorder.abort("enough")
    assert record(recorder, 0) == 0


@pytest.mark.parametrize("where", ["end", "rows", "__init__"])
def test_an_interrupt_leaves_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    recorder = new(tmp_path / "d")
    if where != "__init__":
        recorder.begin("a task")
        step(recorder, 0, stamp(0, 0, 0), stamp(0, 1, 0))
    with monkeypatch.context() as patch:
        patch.setattr(Recording, where, interrupted)
        with pytest.raises(KeyboardInterrupt):
            recorder.begin("a task") if where == "__init__" else recorder.commit(True)
    assert "KeyboardInterrupt" in (tmp_path / "d/.quarantine/0000/reason.txt").read_text()
    assert record(recorder, 0) == 0


def test_one_writer_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LOCK_WAIT_S", 0.1)
    first, second = new(tmp_path / "d"), new(tmp_path / "d")
    first.begin("a task")
    busy = rf"d is being written by another writer \(process {os.getpid()}\); one at a time"
    with pytest.raises(UnavailableError, match=busy):
        second.begin("a task")
    with pytest.raises(UnavailableError, match=busy):
        new(tmp_path / "d")
    step(first, 0, stamp(0, 0, 0), stamp(0, 1, 0))
    assert first.commit(True) == 0
    with pytest.raises(DataError, match="another writer appended; open the dataset again"):
        second.begin("a task")


class Disk:
    """A disk that fails or waits at the chosen kind of operation, from the chosen call on, until it is mended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: str, error: int, after: int) -> None:
        self.kind, self.error, self.left = kind, error, after
        for name in ("fsync", "replace"):
            monkeypatch.setattr(os, name, self._guard(name, getattr(os, name)))
        monkeypatch.setattr(DraftVideo, "write", self._guard("video", DraftVideo.write))

    def _guard(self, kind: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any) -> Any:
            if kind == self.kind:
                self.left -= 1
                if self.left < 0 and self.error:
                    raise (
                        UnavailableError("cannot write video: x")
                        if kind == "video"
                        else OSError(self.error, os.strerror(self.error))
                    )
                if self.left < 0:
                    time.sleep(0.02)
            return operation(*arguments)

        return guarded


SITES = [("video", 0), ("video", 7)] + [("fsync", n) for n in (0, 1, 2, 3, 8, 11, 12, 13)]
SITES += [("replace", n) for n in (0, 1, 3, 4, 5, 6)]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize(("kind", "after"), SITES)
def test_a_failing_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, after: int, error: int) -> None:
    if error != errno.ENOSPC and (SITES.index((kind, after)) + error) % 4:
        pytest.skip("every site with one error, a quarter of them with each of the others")
    recorder = new(tmp_path / "d")
    assert record(recorder, 0) == 0
    with monkeypatch.context() as patch:
        Disk(patch, kind, error, after)
        with pytest.raises(UnavailableError, match=r"not kept: cannot write|cannot write .*: "):
            record(recorder, 1)
        assert "cannot write" in str(recorder.problem)
        assert check(tmp_path / "d", 1, since=0) == ROWS, "what was committed stays readable while the disk fails"
    assert record(recorder, 1) == 1, "the same recorder goes on when the disk does"
    assert check(tmp_path / "d", 2, since=0) == 2 * ROWS
    assert len(new(tmp_path / "d").writer) == 2
    assert list((tmp_path / "d/.quarantine").glob("*/.staging/ep-000001")) or kind == "replace" or after > 2


@pytest.mark.parametrize("kind", ["video", "fsync", "replace"])
def test_a_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    recorder = new(tmp_path / "d", queue_frames=2 if kind == "video" else 64)
    durations = []
    real = recorder.step

    def timed(*arguments: Any) -> None:
        begin = time.monotonic()
        real(*arguments)
        durations.append(time.monotonic() - begin)

    monkeypatch.setattr(recorder, "step", timed)
    Disk(monkeypatch, kind, 0, 0)
    assert record(recorder, 0) == 0
    assert float(np.median(durations)) < 0.005, "a step must not wait for a write, which takes 0.02 s"
    assert (sum(recorder.lost.values()) > 2) == (kind == "video")


def test_killed_recorders_lose_nothing(tmp_path: Path) -> None:
    """The small version of tests/slow/test_recorder_kill.py."""
    tally = kills(8, tmp_path)
    assert tally.lost == 0 and len(tally.recovery_s) == 8 and tally.committed > 0
