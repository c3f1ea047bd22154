"""Every committed episode is a valid dataset; nothing else ever is."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from kinema.core.config import to_data
from kinema.core.episode import Episode
from kinema.core.errors import DataError, SpecMismatch, UnavailableError
from kinema.core.spec import Camera, RobotSpec
from kinema.data.lerobot.reader import open_dataset
from kinema.data.lerobot.writer import DatasetWriter
from kinema.data.stats import statistics
from kinema.data.video import VideoCodec

Make = Callable[..., Episode]


def test_the_directory_is_v3(recorded: Path) -> None:
    files = sorted(path.relative_to(recorded).as_posix() for path in recorded.rglob("*.*") if path.is_file())
    assert "data/chunk-000/file-005.parquet" in files and "meta/episodes/chunk-000/file-005.parquet" in files
    assert "videos/observation.images.front/chunk-000/file-005.mp4" in files
    info = json.loads((recorded / "meta/info.json").read_text())
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (6, 32, 3)
    frames = pq.read_table(recorded / "data/chunk-000/file-002.parquet")
    assert frames["timestamp"].to_pylist() == pytest.approx([step / 10 for step in range(9)])
    assert frames["index"].to_pylist() == list(range(7, 16)) and set(frames["episode_index"].to_pylist()) == {2}
    assert frames.schema.field("observation.state").type.list_size == 2
    assert str(frames.schema.field("observation.force").type) == "float"
    assert str(frames.schema.field("frame_index").type) == "int64"
    row = pq.read_table(recorded / "meta/episodes/chunk-000/file-002.parquet").to_pylist()[0]
    assert row["tasks"] == ["do thing 2"] and row["length"] == 9
    assert (row["dataset_from_index"], row["dataset_to_index"]) == (7, 16)
    assert row["videos/observation.images.wrist/file_index"] == 2
    assert row["videos/observation.images.wrist/to_timestamp"] == pytest.approx(0.9)
    assert row["stats/action/count"] == [9] and np.shape(row["stats/observation.images.front/mean"]) == (3, 1, 1)
    tasks = pq.read_table(recorded / "meta/tasks.parquet")
    assert tasks["task"].to_pylist() == ["do thing 0", "do thing 1", "do thing 2"]
    assert tasks.schema.pandas_metadata["index_columns"] == ["task"]


def test_merged_statistics_equal_recomputed(recorded: Path) -> None:
    stored = json.loads((recorded / "meta/stats.json").read_text())
    exact = statistics(open_dataset(recorded))
    for feature, key in (("action", "action"), ("observation.state", "vector.proprioception")):
        for name in ("mean", "std", "min", "max", "count"):
            assert np.allclose(stored[feature][name], exact[key][name], rtol=1e-12), (feature, name)


def test_appending_rewrites_nothing(tmp_path: Path, spec: RobotSpec, make_episode: Make) -> None:
    writer = DatasetWriter(tmp_path / "d", spec, provenance={})
    writer.append(make_episode(0))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "d").rglob("file-*")}
    writer.append(make_episode(1))
    assert len(before) == 4 and all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    assert len(open_dataset(tmp_path / "d").episodes) == 2


def test_resume(tmp_path: Path, spec: RobotSpec, make_episode: Make) -> None:
    root = tmp_path / "d"
    DatasetWriter(root, spec, provenance={"run": 1}).append(make_episode(0))
    writer = DatasetWriter(root, spec, provenance={"run": 2})
    assert len(writer) == 1 and writer.origins == (make_episode(0).origin,)
    assert writer.append(make_episode(1)) == 1
    dataset = open_dataset(root)
    assert dataset.provenance == ({"from_episode": 0, "run": 1}, {"from_episode": 1, "run": 2})
    assert [episode.success for episode in dataset.episodes] == [True, True]


def test_resume_with_something_else(tmp_path: Path, spec: RobotSpec, make_episode: Make) -> None:
    root = tmp_path / "d"
    DatasetWriter(root, spec, provenance={}).append(make_episode(0))
    with pytest.raises(SpecMismatch, match=r"rate_hz: 10\.0, expected 20\.0"):
        DatasetWriter(root, replace(spec, rate_hz=20.0), provenance={})
    fewer = replace(spec, observation=replace(spec.observation, cameras=spec.observation.cameras[:1]))
    with pytest.raises(SpecMismatch, match="no camera 'wrist'"):
        DatasetWriter(root, fewer, provenance={})
    with pytest.raises(SpecMismatch, match=r"is compressed with .*crf=8"):
        DatasetWriter(root, spec, codec=VideoCodec(crf=20), provenance={})
    more = replace(spec, observation=replace(spec.observation, cameras=(Camera(name="a/b", height=4, width=4),)))
    with pytest.raises(SpecMismatch, match="'a/b' cannot be a file name"):
        DatasetWriter(tmp_path / "e", more, provenance={})
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image.wrist": None}, r"the episode has no 'image\.wrist'"),
        (
            {"image.wirst": np.zeros((6, 24, 32, 3), np.uint8)},
            r"unexpected 'image\.wirst' .*did you mean 'image\.wrist'",
        ),
        ({"image.wrist": np.zeros((6, 24, 30, 3), np.uint8)}, r"image\.wrist: shape \(6, 24, 30, 3\) uint8, expected"),
        ({"image.wrist": np.zeros((6, 24, 32, 3))}, r"image\.wrist: .*float64, expected .*uint8"),
        ({"vector.force": np.zeros((5, 1), np.float32)}, r"vector\.force: shape \(5, 1\) .*expected shape \(6, 1\)"),
        ({"action": np.full((6, 2), np.nan, np.float32)}, "action: not finite at step 0"),
        ({"action": np.zeros((0, 2), np.float32)}, "the episode has no steps"),
    ],
)
def test_misfits(
    tmp_path: Path, spec: RobotSpec, make_episode: Make, change: dict[str, np.ndarray], message: str
) -> None:
    writer = DatasetWriter(tmp_path / "d", spec, provenance={})
    episode = make_episode(0)
    frames = {key: value for key, value in {**episode.frames, **change}.items() if value is not None}
    with pytest.raises(SpecMismatch, match=message):
        writer.append(replace(episode, frames=frames))
    assert len(writer) == 0 and not (tmp_path / "d/.staging").exists()


def test_instruction_and_origin_are_checked(tmp_path: Path, spec: RobotSpec, make_episode: Make) -> None:
    writer = DatasetWriter(tmp_path / "d", spec, provenance={})
    with pytest.raises(SpecMismatch, match="expected a non-empty text"):
        writer.append(replace(make_episode(0), instruction=" "))
    with pytest.raises(SpecMismatch, match=r"origin 'seed' is .*numpy\.int64"):
        writer.append(replace(make_episode(0), origin={"seed": np.int64(3)}))


def test_two_writers(tmp_path: Path, spec: RobotSpec, make_episode: Make) -> None:
    first, second = (DatasetWriter(tmp_path / "d", spec, provenance={}) for _ in range(2))
    first.append(make_episode(0))
    with pytest.raises(DataError, match="another writer appended; open the dataset again"):
        second.append(make_episode(1))


def test_uncommitted_files_go_to_quarantine(
    tmp_path: Path, spec: RobotSpec, make_episode: Make, recorded: Path
) -> None:
    """What a writer killed just before the commit point leaves: all files of one episode more, and stats ahead."""
    root = tmp_path / "d"
    writer = DatasetWriter(root, spec, provenance={})
    writer.append(make_episode(0))
    info, stats = (root / "meta/info.json").read_bytes(), (root / "meta/stats.json").read_bytes()
    writer.append(make_episode(1))
    (root / "meta/info.json").write_bytes(info)
    (root / ".staging/ep-000002").mkdir()
    (root / ".staging/ep-000002/data.parquet").write_bytes(b"half")
    orphan = (root / "data/chunk-000/file-001.parquet").read_bytes()
    assert len(open_dataset(root).episodes) == 1, "a reader sees the committed episode only"
    writer = DatasetWriter(root, spec, provenance={})
    assert len(writer) == 1 and json.loads((root / "meta/stats.json").read_bytes()) == json.loads(stats)
    kept = sorted(
        p.relative_to(root / ".quarantine/0000").as_posix() for p in (root / ".quarantine").rglob("*.*") if p.is_file()
    )
    assert kept == [
        ".staging/ep-000002/data.parquet",
        "data/chunk-000/file-001.parquet",
        "meta/episodes/chunk-000/file-001.parquet",
        "reason.txt",
        "videos/observation.images.front/chunk-000/file-001.mp4",
        "videos/observation.images.wrist/chunk-000/file-001.mp4",
    ]
    assert "the writer was stopped" in (root / ".quarantine/0000/reason.txt").read_text()
    assert (root / ".quarantine/0000/data/chunk-000/file-001.parquet").read_bytes() == orphan
    assert not (root / "data/chunk-000/file-001.parquet").exists()
    assert writer.append(make_episode(4, 3)) == 1
    dataset = open_dataset(root)
    assert [episode.length for episode in dataset.episodes] == [6, 3]
    assert dataset.tasks[:2] == ("do thing 0", "do thing 1") and dataset.episodes[1].instruction == "do thing 1"
    assert np.array_equal(dataset.column("action")[6:], make_episode(4, 3).frames["action"])


def test_full_disk_keeps_what_is_committed(tmp_path: Path, spec: RobotSpec, make_episode: Make) -> None:
    writer = DatasetWriter(tmp_path / "d", spec, provenance={})
    writer.append(make_episode(0))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, limits[1]))
    try:
        with pytest.raises(UnavailableError, match=r"cannot write .*/d"):
            writer.append(make_episode(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(open_dataset(tmp_path / "d").episodes) == 1
    assert writer.append(make_episode(1)) == 1, "the same writer goes on when there is space again"
    assert len(open_dataset(tmp_path / "d").episodes) == 2
    assert (tmp_path / "d/.quarantine/0000/.staging").is_dir()


def test_unwritable_places(tmp_path: Path, spec: RobotSpec) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UnavailableError, match=r"cannot write .*/file/d"):
        DatasetWriter(tmp_path / "file/d", spec, provenance={})
    (tmp_path / "other").mkdir()
    (tmp_path / "other/holiday.jpg").write_text("x")
    with pytest.raises(DataError, match=r"not empty: it holds 'holiday\.jpg'"):
        DatasetWriter(tmp_path / "other", spec, provenance={})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(tmp_path: Path, spec: RobotSpec) -> None:
    (tmp_path / "d").mkdir(mode=0o500)
    with pytest.raises(UnavailableError, match="Permission denied"):
        DatasetWriter(tmp_path / "d", spec, provenance={})


def test_a_lost_info_is_not_a_new_dataset(tmp_path: Path, spec: RobotSpec, make_episode: Make) -> None:
    DatasetWriter(tmp_path / "d", spec, provenance={}).append(make_episode(0))
    (tmp_path / "d/meta/info.json").unlink()
    with pytest.raises(DataError, match=r"meta/info\.json is missing"):
        DatasetWriter(tmp_path / "d", spec, provenance={})
    assert (tmp_path / "d/data/chunk-000/file-000.parquet").is_file()


def test_chunks_roll_over(tmp_path: Path, spec: RobotSpec, make_episode: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinema.data.lerobot.layout.CHUNK_FILES", 2)
    writer = DatasetWriter(tmp_path / "d", spec, provenance={})
    for index in range(5):
        writer.append(make_episode(index, 2))
    assert (tmp_path / "d/data/chunk-002/file-000.parquet").is_file()
    assert len(DatasetWriter(tmp_path / "d", spec, provenance={})) == 5
    assert [episode.start for episode in open_dataset(tmp_path / "d").episodes] == [0, 2, 4, 6, 8]


RECORD = """
import sys
from pathlib import Path
import numpy as np
from kinema.core.episode import Episode
from kinema.data.lerobot.layout import read_kinema
from kinema.data.lerobot.writer import DatasetWriter
root = Path(sys.argv[1])
writer = DatasetWriter(root, read_kinema(root)["spec"], provenance={})
while True:
    n = len(writer)
    frames = {"action": np.full((4, 2), n, np.float32), "vector.force": np.zeros((4, 1), np.float32)}
    frames |= {"vector.proprioception": np.zeros((4, 2), np.float32), "vector.full_state": np.ones((4, 3), np.float32)}
    frames |= {"image.front": np.full((4, 33, 31, 3), n % 200, np.uint8)}
    frames |= {"image.wrist": np.zeros((4, 24, 32, 3), np.uint8)}
    print(writer.append(Episode(instruction=f"task {n}", frames=frames, success=True, origin={"n": n})), flush=True)
"""


def test_killed_writers_lose_no_committed_episode(tmp_path: Path, spec: RobotSpec) -> None:
    root = tmp_path / "d"
    DatasetWriter(root, spec, provenance={})
    rng = np.random.default_rng(0)
    committed = 0
    for _ in range(10):
        process = subprocess.Popen([sys.executable, "-c", RECORD, str(root)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        committed = max(committed, int(process.stdout.readline()) + 1)
        try:
            process.wait(timeout=float(rng.uniform(0, 0.15)))
        except subprocess.TimeoutExpired:
            process.kill()
        acknowledged = [int(line) for line in process.stdout.read().split()]
        process.wait()
        process.stdout.close()
        committed = max([committed, *(index + 1 for index in acknowledged)])
        dataset = open_dataset(root)
        assert committed <= len(dataset.episodes) <= committed + 1
        committed = len(dataset.episodes)
        assert dataset.column("action")[::4, 0].tolist() == list(range(committed))
        assert [episode.origin["n"] for episode in dataset.episodes] == list(range(committed))
    images = dataset.images("front")
    assert np.abs(images[::4].mean(axis=(1, 2, 3)) - np.arange(committed) % 200).max() < 2
    shutil.rmtree(root / ".cache")


def test_provenance_with_a_configuration_can_be_added_to(tmp_path: Path, spec: RobotSpec, make_episode: Make) -> None:
    root = tmp_path / "data"
    for index, noise in enumerate((0.0, 0.5)):
        writer = DatasetWriter(root, spec, provenance={"codec": VideoCodec(), "noise": noise})
        writer.append(make_episode(index))
    entries = open_dataset(root).provenance
    assert [(entry["from_episode"], entry["noise"]) for entry in entries] == [(0, 0.0), (1, 0.5)]
    assert entries[0]["codec"] == entries[1]["codec"] == to_data(VideoCodec())


def timed(episode: Episode) -> Episode:
    times = np.arange(len(episode), dtype=np.int64) * 100 + 7
    return replace(
        episode,
        captured_ns={"image.front": times, "action": times + 3},
        valid={"image.front": times % 200 == 7},
    )


TIMING = {"captured": ("image.front", "action"), "valid": ("image.front",)}


def test_capture_times_and_validity(tmp_path: Path, spec: RobotSpec, make_episode: Make) -> None:
    root = tmp_path / "d"
    DatasetWriter(root, spec, **TIMING).append(timed(make_episode(0, 3)))
    assert DatasetWriter(root, spec).append(timed(make_episode(1))) == 1, "the dataset knows what it was made with"
    features = json.loads((root / "meta/info.json").read_text())["features"]
    assert features["captured_ns.action"] == {"dtype": "int64", "shape": [1], "names": None}
    assert features["valid.observation.images.front"]["dtype"] == "bool"
    table = pq.read_table(root / "data/chunk-000/file-000.parquet")
    assert table["captured_ns.action"].to_pylist() == [10, 110, 210]
    assert table["valid.observation.images.front"].to_pylist() == [True, False, True]
    assert len(open_dataset(root).episodes) == 2
    with pytest.raises(SpecMismatch, match=r"was made with captured image\.front, action, not of nothing"):
        DatasetWriter(root, spec, captured=())
    with pytest.raises(SpecMismatch, match=r"valid: there is no 'image\.frnt'; did you mean 'image\.front'"):
        DatasetWriter(tmp_path / "e", spec, valid=("image.frnt",))


def test_capture_times_that_do_not_fit(tmp_path: Path, spec: RobotSpec, make_episode: Make) -> None:
    plain = DatasetWriter(tmp_path / "plain", spec)
    episode = timed(make_episode(0, 3))
    with pytest.raises(SpecMismatch, match=r"unexpected captured_ns of 'image\.front'; the dataset was made without"):
        plain.append(episode)
    writer = DatasetWriter(tmp_path / "timed", spec, **TIMING)
    action = np.array([5, 9, 8], np.int64)
    front = episode.captured_ns["image.front"]
    for change, message in (
        ({"captured_ns": {"action": action}}, r"no captured_ns of 'image\.front'"),
        ({"captured_ns": {"image.front": front, "action": action}}, r"goes back after step 1: 9, then 8"),
        ({"captured_ns": {"image.front": front, "action": action * 1.0}}, r"'action': shape \(3,\) float64, expected"),
        ({"valid": {"image.front": np.ones(2, bool)}}, r"valid of 'image\.front': shape \(2,\) bool, expected shape"),
    ):
        with pytest.raises(SpecMismatch, match=message):
            writer.append(replace(episode, **change))
    assert len(writer) == 0
