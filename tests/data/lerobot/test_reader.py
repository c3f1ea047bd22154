"""What is read is what was recorded, or an error that says what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kinema.core.episode import Episode
from kinema.core.errors import DataError, KinemaError
from kinema.core.spec import RobotSpec
from kinema.data.lerobot.reader import Dataset, open_dataset
from kinema.data.lerobot.writer import DatasetWriter
from kinema.data.video import VideoCodec, encode

LENGTHS = (6, 1, 9, 4, 7, 5)
Make = Callable[..., Episode]


@pytest.fixture
def copy(tmp_path: Path, recorded: Path) -> Path:
    shutil.copytree(recorded, tmp_path / "copy", ignore=shutil.ignore_patterns(".cache"))
    return tmp_path / "copy"


def test_tables_are_bit_exact(dataset: Dataset, spec: RobotSpec, make_episode: Make) -> None:
    assert dataset.spec == spec and dataset.fps == 10 and len(dataset) == sum(LENGTHS)
    for index, record in enumerate(dataset.episodes):
        episode = make_episode(index, LENGTHS[index])
        rows = slice(record.start, record.start + record.length)
        assert (record.index, record.length, record.start) == (index, LENGTHS[index], sum(LENGTHS[:index]))
        assert (record.instruction, record.origin, record.success) == (
            episode.instruction,
            episode.origin,
            episode.success,
        )
        assert set(dataset.instructions[rows]) == {episode.instruction}
        for key in ("action", "vector.proprioception", "vector.full_state", "vector.force"):
            column = dataset.column(key)
            assert column.dtype == np.float32 and column.flags.c_contiguous and not column.flags.writeable
            assert np.array_equal(column[rows], episode.frames[key]), key


def test_images_are_those_of_their_rows(dataset: Dataset, make_episode: Make) -> None:
    for camera in ("front", "image.wrist"):
        images = dataset.images(camera)
        recorded = np.concatenate(
            [make_episode(i, n).frames[f"image.{camera.removeprefix('image.')}"] for i, n in enumerate(LENGTHS)]
        )
        assert images.shape == recorded.shape and isinstance(images, np.memmap) and not images.flags.writeable
        error = (images.astype(float) - recorded) ** 2
        assert 10 * np.log10(255**2 / error.mean(axis=(1, 2, 3))).min() > 40, "of every single frame"


def test_the_cache_is_built_once(copy: Path, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    first = open_dataset(copy, progress=lambda *call: calls.append(call))
    images = np.array(first.images("front"))
    assert calls == [("image.front", done, 6) for done in range(1, 7)]
    path = copy / ".cache" / first.content_hash[:16] / "image.front.u8"
    assert path.stat().st_size == 32 * 33 * 31 * 3
    again = open_dataset(copy, progress=lambda *call: calls.append(call))
    assert np.array_equal(again.images("front"), images) and len(calls) == 6
    path.write_bytes(path.read_bytes()[:-1])
    assert np.array_equal(open_dataset(copy).images("front"), images)
    open_dataset(copy, cache=tmp_path / "elsewhere").images("front")
    assert (tmp_path / "elsewhere" / first.content_hash[:16] / "image.front.u8").is_file()


def test_content_hash_follows_content(copy: Path, recorded: Path, spec: RobotSpec, make_episode: Make) -> None:
    before = open_dataset(copy).content_hash
    assert before == open_dataset(recorded).content_hash, "wherever it lies"
    assert len(before) == 64
    (copy / "notes.txt").write_text("not data")
    assert open_dataset(copy).content_hash == before
    open_dataset(copy).images("front")
    DatasetWriter(copy, spec, provenance={"command": "tests"}).append(make_episode(6))
    after = open_dataset(copy)
    assert after.content_hash != before
    assert len(after.images("front")) == 38
    assert [path.name for path in (copy / ".cache").iterdir() if path.is_dir()] == [after.content_hash[:16]]


def test_unknown_names(dataset: Dataset) -> None:
    with pytest.raises(KinemaError, match="unknown camera 'fornt'; did you mean 'front'"):
        dataset.images("fornt")
    with pytest.raises(KinemaError, match=r"unknown column 'vector\.forse'; did you mean 'vector\.force'"):
        dataset.column("vector.forse")


def edit_info(root: Path, **entries: object) -> None:
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_not_a_dataset(tmp_path: Path, copy: Path, spec: RobotSpec) -> None:
    with pytest.raises(DataError, match="no such directory"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"meta/info\.json is missing"):
        open_dataset(tmp_path)
    DatasetWriter(tmp_path / "empty", spec, provenance={})
    with pytest.raises(DataError, match="has 0 episodes"):
        open_dataset(tmp_path / "empty")
    (copy / "meta/kinema.json").unlink()
    with pytest.raises(DataError, match=r"no meta/kinema\.json, so units, frames, action kind"):
        open_dataset(copy)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"spec": ' + "[" * 600 + "]" * 600 + "}"])
def test_metadata_that_is_nested_without_end(copy: Path, content: str) -> None:
    (copy / "meta/kinema.json").write_text(content)
    with pytest.raises(DataError, match=r"kinema\.json: .*(recursion|nested too deeply)"):
        open_dataset(copy)


def test_metadata_that_does_not_fit(copy: Path) -> None:
    original = (copy / "meta/info.json").read_text()
    for entries, message in (
        ({"codebase_version": "v2.1"}, "data_path .*{chunk_index} is not one of episode_chunk, episode_index"),
        ({"codebase_version": "v1.6"}, "codebase_version 'v1.6', expected one of v2.0, v2.1, v3.0$"),
        ({"codebase_version": "v4.0"}, "codebase_version 'v4.0', expected one of .*; it is from the future"),
        ({"total_frames": 33}, "the episodes have 32 rows, info.json counts 33"),
        ({"total_episodes": 7}, r"counts 7 episodes, meta/episodes lists 6: episodes \[6\] are missing"),
        ({"total_tasks": 4}, "counts 4 tasks, the table lists 3"),
        ({"fps": 30}, "30 fps, the spec 10"),
        ({"total_episodes": "six"}, "total_episodes is 'six', expected a whole number"),
        ({"features": {}}, "there is no feature 'timestamp', which every dataset has"),
    ):
        (copy / "meta/info.json").write_text(original)
        edit_info(copy, **entries)
        with pytest.raises(DataError, match=message):
            open_dataset(copy)
    (copy / "meta/info.json").write_text(original[: len(original) // 2])
    with pytest.raises(DataError, match=r"cannot read .*info\.json"):
        open_dataset(copy)


@pytest.mark.parametrize(
    "name", ["data/chunk-000/file-003.parquet", "meta/episodes/chunk-000/file-003.parquet", "meta/tasks.parquet"]
)
def test_truncated_tables(copy: Path, name: str) -> None:
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=rf"{name} is truncated or not a parquet file"):
        open_dataset(copy)


def test_missing_and_swapped_files(copy: Path) -> None:
    one, two = (copy / f"data/chunk-000/file-00{number}.parquet" for number in (2, 3))
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    with pytest.raises(DataError, match="the data files hold 27 rows, the episodes say 32"):
        open_dataset(copy)
    one.write_bytes(content)
    two.unlink()
    with pytest.raises(DataError, match=r"file-003\.parquet does not exist"):
        open_dataset(copy)


def test_damaged_videos(copy: Path, make_episode: Make) -> None:
    path = copy / "videos/observation.images.front/chunk-000/file-002.mp4"
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"moov")])
    with pytest.raises(DataError, match=r"file-002\.mp4 is not a complete video"):
        open_dataset(copy).images("front")
    encode(make_episode(2, 8).frames["image.front"], path, 10, VideoCodec())
    with pytest.raises(DataError, match=r"file-002\.mp4 holds 8 frames, its episodes have 9 rows"):
        open_dataset(copy).images("front")
    assert len(open_dataset(copy).images("wrist")) == 32, "the other camera is whole"
    assert not list((copy / ".cache").rglob("*.tmp"))
    path.unlink()
    with pytest.raises(DataError, match=r"file-002\.mp4"):
        open_dataset(copy).images("front")


def test_a_shared_cache_keeps_what_is_not_decoded_frames(copy: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "scratch" / "0123456789abcdef"
    theirs.mkdir(parents=True)
    (theirs / "thesis.txt").write_text("mine")
    open_dataset(copy, cache=tmp_path / "scratch").images("front")
    assert (theirs / "thesis.txt").read_text() == "mine"
