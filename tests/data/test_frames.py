"""Frames are those of a full decode, whatever was decoded before, by whom, and whatever was interrupted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kinema.core.errors import DataError, UnavailableError
from kinema.data import cached_frames
from kinema.data.lerobot.reader import Dataset, open_dataset
from kinema.data.loader import Loader
from kinema.data.windows import Windows


@pytest.fixture
def copy(tmp_path: Path, recorded: Path) -> Path:
    shutil.copytree(recorded, tmp_path / "copy", ignore=shutil.ignore_patterns(".cache"))
    return tmp_path / "copy"


@pytest.fixture(scope="module")
def whole(dataset: Dataset) -> dict[str, np.ndarray]:
    return {camera: np.array(dataset.images(camera)) for camera in ("front", "wrist")}


def test_reading_on_demand_is_the_full_decode(copy: Path, whole: dict[str, np.ndarray]) -> None:
    opened = open_dataset(copy)
    for camera, images in whole.items():
        frames = opened.frames(camera)
        assert len(frames.missing()) == 32 and frames.shape == images.shape
        rng = np.random.default_rng(0)
        for _ in range(3):
            rows = rng.integers(0, 32, (3, 2))
            assert np.array_equal(frames.read(rows), images[rows])
        assert 0 < len(frames.missing()) < 32
        assert np.array_equal(frames.fill(), images) and not len(frames.missing())
        assert np.array_equal(frames.read(np.arange(31, -1, -1)), images[::-1])


def test_batches_are_the_same_whatever_is_cached(copy: Path, dataset: Dataset) -> None:
    """The first epoch from video, by several threads; a second process's from a part of the cache; all from it."""
    kept = Loader(Windows(dataset, obs_horizon=2, pred_horizon=3), batch_size=5, seed=4, prefetch=0)
    for start in (0, 3, 0):
        opened = Windows(open_dataset(copy), obs_horizon=2, pred_horizon=3)
        batches = Loader(opened, batch_size=5, seed=4, prefetch=3).batches(start)
        for step in range(start, start + 4):
            batch, expected = next(batches), kept.batch(step)
            for key, value in expected.items():
                assert np.array_equal(batch[key], value), (start, step, key)
        batches.close()


def rows_on_disk(root: Path) -> np.ndarray:
    return np.fromfile(next((root / ".cache").rglob("image.front.rows")), np.uint8)


def test_only_what_is_on_disk_counts_as_decoded(copy: Path, whole: dict[str, np.ndarray]) -> None:
    frames = open_dataset(copy).frames("front")
    frames.read(np.array([8]))
    assert not rows_on_disk(copy).any(), "not before it is flushed"
    frames.flush()
    marked = np.flatnonzero(rows_on_disk(copy))
    assert 8 in marked and len(marked) <= 2, "the group of pictures that row 8 is in"
    again = open_dataset(copy).frames("front")
    assert sorted(again.missing()) == sorted(set(range(32)) - set(marked))
    assert np.array_equal(again.read(np.arange(32)), whole["front"])


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from kinema.data.lerobot.reader import open_dataset
frames = open_dataset(Path(sys.argv[1])).frames("front")
frames.read(np.arange(12)); frames.flush(); frames.read(np.arange(12, 24))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_no_half_decoded_frame(copy: Path, whole: dict[str, np.ndarray]) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, str(copy)])
    assert ended.returncode == -9
    frames = open_dataset(copy).frames("front")
    assert 12 <= 32 - len(frames.missing()) < 24
    assert np.array_equal(frames.read(np.arange(32)), whole["front"])


TOGETHER = """
import sys
from pathlib import Path
import numpy as np
from kinema.data.lerobot.reader import open_dataset
frames = open_dataset(Path(sys.argv[1])).frames("front")
rows = np.random.default_rng(int(sys.argv[2])).permutation(32)
for row in rows:
    frames.read(rows[:1]); frames.read(np.array([row]))
frames.flush()
"""


def test_two_processes_may_fill_one_cache(copy: Path, whole: dict[str, np.ndarray]) -> None:
    both = [subprocess.Popen([sys.executable, "-c", TOGETHER, str(copy), str(seed)]) for seed in (0, 1)]
    assert [process.wait() for process in both] == [0, 0]
    frames = open_dataset(copy).frames("front")
    assert not len(frames.missing())
    assert np.array_equal(frames.read(np.arange(32)), whole["front"])


def test_what_another_process_flushed_is_seen(copy: Path) -> None:
    first, second = (open_dataset(copy).frames("front") for _ in range(2))
    first.read(np.arange(6))
    assert len(second.missing()) == 32
    first.flush()
    assert len(second.missing()) == 26


def test_a_data_file_of_another_length_is_begun_anew(copy: Path, whole: dict[str, np.ndarray]) -> None:
    frames = open_dataset(copy).frames("front")
    frames.fill()
    with open(frames.path, "rb+") as file:
        file.truncate(1000)
    with pytest.raises(DataError, match=r"image\.front\.u8 was cut short by somebody else"):
        frames.read(np.arange(32))
    again = open_dataset(copy).frames("front")
    assert len(again.missing()) == 32 and np.array_equal(again.read(np.arange(32)), whole["front"])


def test_a_full_disk_is_told_before_training(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(copy)
    monkeypatch.setattr(cached_frames.shutil, "disk_usage", lambda folder: usage._replace(free=32 * 33 * 31 * 3 - 1))
    with pytest.raises(UnavailableError, match=r"cannot keep decoded frames in .*need 0\.0 GiB.*\nfix: .*stream"):
        open_dataset(copy).frames("front")


def test_a_disk_that_fills_up_is_unavailable(copy: Path) -> None:
    frames = open_dataset(copy).frames("front")
    read_only = os.open(frames.path, os.O_RDONLY)
    os.dup2(read_only, frames._store._files[0])
    os.close(read_only)
    with pytest.raises(UnavailableError, match="cannot keep decoded frames in"):
        frames.read(np.array([3]))


def test_a_complete_cache_is_only_read(copy: Path, whole: dict[str, np.ndarray]) -> None:
    frames = open_dataset(copy).frames("front")
    frames.fill()
    for path in frames.path.parent.iterdir():
        path.chmod(0o444)
    before = [path.stat().st_mtime_ns for path in frames.path.parent.iterdir()]
    assert np.array_equal(open_dataset(copy).frames("front").read(np.arange(32)), whole["front"])
    assert [path.stat().st_mtime_ns for path in frames.path.parent.iterdir()] == before
