"""Compaction changes which files hold the data, and nothing else."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from kinema.cli.main import main
from kinema.core.episode import Episode
from kinema.core.errors import DataError, UnavailableError
from kinema.core.spec import RobotSpec
from kinema.data.lerobot import layout
from kinema.data.lerobot.compact import compact
from kinema.data.lerobot.joining import join_videos
from kinema.data.lerobot.reader import Dataset, open_dataset
from kinema.data.lerobot.writer import DatasetWriter
from kinema.data.video import VideoCodec, decode, encode

Make = Callable[..., Episode]
FRONT = "observation.images.front"


@pytest.fixture
def root(tmp_path: Path, recorded: Path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "d", ignore=shutil.ignore_patterns(".cache")))


def files(root: Path) -> list[str]:
    names = (path.relative_to(root).as_posix() for path in root.glob("**/file-*"))
    return sorted(name for name in names if not name.startswith("."))


def assert_same(have: Dataset, want: Dataset, episodes: int | None = None) -> None:
    rows = len(want) if episodes is None else sum(e.length for e in want.episodes[:episodes])
    assert have.episodes[:episodes] == want.episodes[:episodes] and have.tasks == want.tasks
    for key in layout.widths(want.spec):
        assert np.array_equal(have.column(key)[:rows], want.column(key)[:rows]), key
    for camera in want.spec.observation.cameras:
        assert np.array_equal(have.images(camera.name)[:rows], want.images(camera.name)[:rows]), camera.name


def test_same_content_in_fewer_files(root: Path, dataset: Dataset, make_episode: Make, spec: RobotSpec) -> None:
    before = [pq.read_table(root / path) for path in files(root) if path.startswith("data/")]
    info = (root / "meta/info.json").read_bytes()
    result = compact(root)
    assert set(result.before.values()) == {6} and set(result.after.values()) == {1}
    assert files(root) == [
        "data/chunk-000/file-006.parquet",
        "meta/episodes/chunk-000/file-000.parquet",
        f"videos/{FRONT}/chunk-000/file-006.mp4",
        "videos/observation.images.wrist/chunk-000/file-006.mp4",
    ]
    assert (root / "meta/info.json").read_bytes() == info
    merged = pq.ParquetFile(root / "data/chunk-000/file-006.parquet")
    assert [merged.read_row_group(place) for place in range(merged.num_row_groups)] == before
    rows = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row[f"videos/{FRONT}/from_timestamp"] for row in rows] == [0.0, 0.6, 0.7, 1.6, 2.0, 2.7]
    assert [row[f"videos/{FRONT}/to_timestamp"] for row in rows] == [0.6, 0.7, 1.6, 2.0, 2.7, 3.2]
    assert rows[3]["stats/action/count"] == [4] and rows[3]["tasks"] == ["do thing 0"]
    assert len(decode(root / f"videos/{FRONT}/chunk-000/file-006.mp4")) == 32, "pts are strictly 0, 1, 2, ..."
    assert_same(open_dataset(root), dataset)
    assert set(compact(root).after.values()) == {1} and len(files(root)) == 4, "nothing more to do"


def test_appending_goes_on_after_a_compaction(
    root: Path, dataset: Dataset, make_episode: Make, spec: RobotSpec
) -> None:
    early = DatasetWriter(root, spec, provenance={"command": "tests"})
    compact(root)
    with pytest.raises(DataError, match="edited or compacted, or another writer appended; open the dataset again"):
        early.append(make_episode(6))
    assert_same(open_dataset(root), dataset)
    writer = DatasetWriter(root, spec, provenance={"command": "tests"})
    assert writer.append(make_episode(7)) == 6
    assert (root / "data/chunk-000/file-007.parquet").is_file()
    assert not list((root / ".quarantine").glob("*/data")), "no file of the dataset was taken for a leftover"
    compact(root)
    assert len(files(root)) == 4 and (root / "data/chunk-000/file-008.parquet").is_file()
    again = open_dataset(root)
    assert_same(again, dataset, episodes=6)
    assert np.array_equal(again.column("action")[32:], make_episode(7).frames["action"])


def test_sizes_are_kept_and_full_files_stay(root: Path, dataset: Dataset) -> None:
    info = layout.read_json(root / layout.INFO)
    sizes = [path.stat().st_size for path in sorted((root / "data").rglob("file-*"))]
    layout.write_json(root / layout.INFO, {**info, "data_files_size_in_mb": (sum(sizes[:3]) + 100) / 1e6})
    stamp = (root / f"videos/{FRONT}/chunk-000/file-000.mp4").stat().st_mtime_ns
    layout.write_json(root / layout.INFO, layout.read_json(root / layout.INFO) | {"video_files_size_in_mb": 0.0001})
    compact(root)
    assert [path for path in files(root) if path.startswith("data")] == [
        "data/chunk-000/file-006.parquet",
        "data/chunk-000/file-007.parquet",
    ]
    assert (root / f"videos/{FRONT}/chunk-000/file-000.mp4").stat().st_mtime_ns == stamp
    assert_same(open_dataset(root), dataset)


class Stop(BaseException):
    """What a kill is: nothing is tidied up after it."""


def test_a_crash_at_any_step_leaves_a_dataset(root: Path, dataset: Dataset, spec: RobotSpec, tmp_path: Path) -> None:
    """The process ends before its n-th operation on the directory, for every n."""
    pristine = tmp_path / "pristine"
    shutil.copytree(root, pristine)
    states = set()
    for operations in range(200):
        shutil.rmtree(root)
        shutil.copytree(pristine, root)
        child = os.fork()
        if child == 0:
            _die_before(operations)
            compact(root)
            os._exit(7)
        _, status = os.waitpid(child, 0)
        have = open_dataset(root)
        assert have.episodes == dataset.episodes and np.array_equal(have.column("action"), dataset.column("action"))
        states.add(pq.read_metadata(root / "meta/episodes/chunk-000/file-000.parquet").num_rows)
        if operations % 5 == 0:
            assert len(DatasetWriter(root, spec)) == 6
            assert_same(open_dataset(root, cache=tmp_path / "cache"), dataset)
        if os.WEXITSTATUS(status) == 7:
            break
    assert operations > 20 and states == {1, 6}


def _die_before(operations: int) -> None:
    import sys

    left = [operations]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("os.rename", "os.mkdir", "os.rmdir", "os.remove") or (event == "open" and arguments[1] == "wb"):
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)

    sys.addaudithook(hook)


@pytest.mark.parametrize("after", [0, 2, 4, 7, 9, 13])
def test_a_full_disk_leaves_a_dataset(
    root: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    before, left, flush = files(root), [after], os.fsync

    def fsync(number: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(number)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(UnavailableError, match="No space left on device"):
            compact(root)
    assert_same(open_dataset(root), dataset)
    switched = after == 13
    if not switched:
        assert files(root) == before and not list((root / ".staging").glob("*"))
    compact(root)
    assert len(files(root)) == 4
    assert_same(open_dataset(root), dataset)


@pytest.mark.parametrize(
    "codec",
    [
        VideoCodec(),
        VideoCodec(encoder="libx265", gop=6),
        VideoCodec(encoder="libsvtav1", pixel_format="yuv420p", gop=4),
        VideoCodec(pixel_format="yuv420p", gop=30),
    ],
)
def test_joined_videos_decode_to_the_same_frames(tmp_path: Path, codec: VideoCodec) -> None:
    rng = np.random.default_rng(0)
    parts = []
    for place, length in enumerate((5, 1, 9)):
        encode(rng.integers(0, 255, (length, 64, 64, 3)).astype(np.uint8), tmp_path / f"{place}.mp4", 15, codec)
        parts.append(decode(tmp_path / f"{place}.mp4"))
    assert join_videos([tmp_path / f"{place}.mp4" for place in range(3)], tmp_path / "all.mp4") == [5, 1, 9]
    assert np.array_equal(decode(tmp_path / "all.mp4"), np.concatenate(parts))


def test_a_short_video_is_not_merged(root: Path, dataset: Dataset) -> None:
    first, third = (root / f"videos/{FRONT}/chunk-000/file-00{number}.mp4" for number in (0, 2))
    shutil.copy(first, third)
    before = files(root)
    with pytest.raises(DataError, match=r"file-002\.mp4 holds 6 frames"):
        compact(root)
    assert files(root) == before


def test_paths_that_lead_elsewhere_are_refused(root: Path) -> None:
    """Nothing is moved, merged or deleted for names and templates that the format's writer does not use."""
    info, before = layout.read_json(root / layout.INFO), files(root)
    victim = root.parent / "victim/chunk-000"
    victim.mkdir(parents=True)
    (victim / "file-000.mp4").write_bytes(b"mine")
    for change, message in (
        ({"features": {**info["features"], "../../victim": info["features"][FRONT]}}, "could leave the directory"),
        ({"data_path": "rows/{chunk_index:03d}/{file_index:03d}.parquet"}, "data_path is 'rows/"),
        ({"video_path": "{video_key}/{chunk_index:03d}/{file_index:03d}.mp4"}, "video_path is "),
        ({"data_files_size_in_mb": None}, r"data_files_size_in_mb is None, expected a size \[MB\]"),
    ):
        layout.write_json(root / layout.INFO, {**info, **change})
        with pytest.raises(DataError, match=message):
            compact(root)
        assert files(root) == before and not (root / ".quarantine").exists()
    assert (victim / "file-000.mp4").read_bytes() == b"mine"


def test_a_table_that_says_it_is_another_is_refused(root: Path) -> None:
    table = root / "meta/episodes/chunk-000/file-003.parquet"
    rows = pq.read_table(table)
    place = rows.schema.get_field_index("meta/episodes/file_index")
    pq.write_table(rows.set_column(place, "meta/episodes/file_index", [[2]]), table)
    before = files(root)
    with pytest.raises(DataError, match=r"does not say rightly where meta/episodes/chunk-000/file-003\.parquet"):
        compact(root)
    assert files(root) == before and not (root / ".quarantine").exists()


def test_an_empty_dataset_stays(tmp_path: Path, spec: RobotSpec) -> None:
    DatasetWriter(tmp_path / "d", spec)
    assert set(compact(tmp_path / "d").after.values()) == {0} and len(DatasetWriter(tmp_path / "d", spec)) == 0


def test_on_the_command_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "compact", str(root)]) == 0
    assert "data: 6 files, now 1\n" in capsys.readouterr().out
    assert main(["data", "compact", str(root / "meta")]) == 2
    assert "is not a dataset" in capsys.readouterr().err
