"""Datasets of every version as one view; what does not add up, or would leave the directory, is an error."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kinema.core.episode import Episode
from kinema.core.errors import DataError, KinemaError
from kinema.data.importers.lerobot import lerobot
from kinema.data.lerobot.reader import Dataset, open_dataset
from kinema.data.lerobot.rows import read_columns
from kinema.data.lerobot.templates import Templates
from kinema.data.lerobot.versions import image_shape, read_view
from kinema.data.lerobot.whole import check_files
from kinema.data.lerobot.writer import DatasetWriter

LENGTHS = (6, 1, 9, 4, 7, 5)


@pytest.fixture
def foreign(tmp_path: Path, recorded: Path) -> Path:
    """The recorded dataset as another program would have written it."""
    root = tmp_path / "foreign"
    shutil.copytree(recorded, root, ignore=shutil.ignore_patterns(".*"))
    (root / "meta/kinema.json").unlink()
    return root


@pytest.fixture
def old(foreign: Path) -> Path:
    """The same as v2.1: a line of JSON per episode and task, and the old names of files."""
    return as_old(foreign, "v2.1")


def as_old(root: Path, version: str) -> Path:
    info = json.loads((root / "meta/info.json").read_text())
    view = read_view(root)
    for row in view.episodes:
        shutil.move(row.data, row.data.with_name(f"episode_{row.index:06d}.parquet"))
        for key, (path, _) in row.videos.items():
            target = root / f"videos/chunk-000/{key}/episode_{row.index:06d}.mp4"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, target)
    episodes = [{"episode_index": r.index, "tasks": list(r.tasks), "length": r.length} for r in view.episodes]
    tasks = [{"task_index": index, "task": task} for index, task in enumerate(view.tasks)]
    for name, lines in (("episodes", episodes), ("tasks", tasks)):
        (root / f"meta/{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shutil.rmtree(root / "meta/episodes")
    (root / "meta/tasks.parquet").unlink()
    info |= {
        "codebase_version": version,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    return root


def edit(root: Path, **entries: Any) -> None:
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def filled(root: Path) -> Any:
    """The proposed card with all that is unknown made up."""
    card = lerobot(root).card
    vectors = tuple(replace(v, units=("m",) * len(v.units), frame="world") for v in card.vectors)
    action = replace(
        card.action, units=("m", "m"), frame="world", kind="delta", integrator="robot", gripper=None,
        low=(-1.0, -1.0), high=(1.0, 1.0),
    )  # fmt: skip
    return replace(card, vectors=vectors, action=action, success="all")


@pytest.mark.parametrize("version", ["v2.0", "v2.1", "v3.0"])
def test_every_version_reads_the_same(foreign: Path, dataset: Dataset, version: str) -> None:
    root = foreign if version == "v3.0" else as_old(foreign, version)
    view = read_view(root)
    check_files(view)
    assert view.version == version and view.tasks == dataset.tasks
    assert [(row.index, row.length, row.start) for row in view.episodes] == [
        (e.index, e.length, e.start) for e in dataset.episodes
    ]
    read = open_dataset(root, card=filled(root))
    for key in ("action", "vector.proprioception", "vector.full_state", "vector.force"):
        assert np.array_equal(read.column(key), dataset.column(key)), key
    for camera in ("front", "wrist"):
        assert np.array_equal(read.images(camera), dataset.images(camera)), camera
    assert list(read.instructions) == list(dataset.instructions)
    assert read.episodes[3].success and not dataset.episodes[3].success, "the card says so"


def test_without_a_card_the_command_is_named(foreign: Path, recorded: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"kinema data import lerobot .*foreign --card-out card\.json"):
        open_dataset(foreign)
    with pytest.raises(KinemaError, match=r"the card does not say all that is needed:\n.*frame not said"):
        open_dataset(foreign, card=lerobot(foreign).card)
    with pytest.raises(KinemaError, match="it needs no card"):
        open_dataset(recorded, card=lerobot(foreign).card)


def test_a_card_turns_cameras_and_is_part_of_the_hash(foreign: Path, dataset: Dataset) -> None:
    card = filled(foreign)
    plain = open_dataset(foreign, card=card)
    cameras = (replace(card.cameras[0], turned_deg=180, channels="bgr"), *card.cameras[1:])
    turned = open_dataset(foreign, card=replace(card, cameras=cameras))
    assert np.array_equal(turned.images("front"), dataset.images("front")[:, ::-1, ::-1, ::-1])
    assert turned.content_hash != plain.content_hash


@pytest.mark.parametrize(
    "template",
    [
        "../{episode_chunk:03d}/{episode_index}.parquet",
        "/data/{episode_index}.parquet",
        "data/{episode_index.__class__}.parquet",
        "data/{episode_index!r}.parquet",
        "data/{0}.parquet",
        "data/{episode_index:>999999}.parquet",
        "data/{secret}.parquet",
        "data/{episode_index",
        "data\\..\\{episode_index}.parquet",
        7,
    ],
)
def test_paths_stay_inside(old: Path, template: object) -> None:
    edit(old, data_path=template)
    with pytest.raises(DataError, match="data_path"):
        read_view(old)


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", "a\x00b", ".."])
def test_feature_names_stay_inside(foreign: Path, name: str) -> None:
    features = json.loads((foreign / "meta/info.json").read_text())["features"]
    edit(foreign, features=features | {name: {"dtype": "video", "shape": [8, 8, 3]}})
    with pytest.raises(DataError, match="could leave the directory"):
        read_view(foreign)


@pytest.mark.parametrize(
    ("name", "template"),
    [
        ("", "{video_key}/etc/hostname"),
        (".", "{video_key}./{video_key}./secret.mp4"),
        ("http:", "{video_key}/host/x.mp4"),
        ("C:", "{video_key}x.mp4"),
    ],
)
def test_formatted_paths_stay_inside(foreign: Path, name: str, template: str) -> None:
    info = json.loads((foreign / "meta/info.json").read_text())
    edit(foreign, features=info["features"] | {name: {"dtype": "video", "shape": [8, 8, 3]}}, video_path=template)
    with pytest.raises(DataError, match="could leave the directory"):
        read_view(foreign)
    with pytest.raises(DataError, match="leaves the dataset's directory"):
        Templates(foreign, {**info, "video_path": template}, False, True).path(template, video_key=name)


def test_files_named_by_rows_stay_inside(foreign: Path) -> None:
    path = foreign / "meta/episodes/chunk-000/file-002.parquet"
    table = pq.read_table(path)
    place = table.column_names.index("data/chunk_index")
    pq.write_table(table.set_column(place, "data/chunk_index", pa.array(["../../.."])), path)
    with pytest.raises(DataError, match=r"chunk_index is '\.\./\.\./\.\.', expected a whole number"):
        read_view(foreign)


def put(path: Path, column: str, values: list[Any], kind: pa.DataType | None = None) -> None:
    table = pq.read_table(path)
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array(values, kind)), path)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("length", None, "length of an episode is None, expected a whole number"),
        ("length", 1 << 60, "length of an episode is 1152921504606846976, expected a whole number"),
        ("length", 1 << 50, "episode 3 starts at row 16"),
        ("tasks", 5, "has the tasks 5, expected texts"),
        ("kinema/origin", "{", "is no JSON"),
        ("kinema/origin", "[" * 100000, "is no JSON"),
        ("kinema/origin", "1" * 5000, "is no JSON"),
        ("kinema/origin", "7", "is not an object"),
        ("kinema/success", "no", "expected true or false"),
        ("videos/observation.images.front/from_timestamp", None, "from_timestamp is None, expected seconds"),
        ("videos/observation.images.front/from_timestamp", float("nan"), "from_timestamp is nan, expected seconds"),
    ],
)
def test_malformed_values_of_episodes(foreign: Path, column: str, value: Any, message: str) -> None:
    put(foreign / "meta/episodes/chunk-000/file-002.parquet", column, [value])
    with pytest.raises(DataError, match=message):
        read_view(foreign)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100000, "cannot read"),
        ('{"fps": ' + "9" * 5000 + "}", "cannot read"),
        ('{"codebase_version": "v3.0", "total_episodes": 1, "total_frames": 1, "total_tasks": 1, "fps": 1e999}', "fps"),
        (
            '{"codebase_version": "v3.0", "total_episodes": 1, "total_frames": 1, "total_tasks": 1, "fps": 1'
            + "0" * 400
            + "}",
            "expected frames per second",
        ),
    ],
)
def test_malformed_info(foreign: Path, text: str, message: str) -> None:
    (foreign / "meta/info.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_view(foreign)


def test_counts_take_no_memory(old: Path) -> None:
    edit(old, total_episodes=10**15)
    with pytest.raises(DataError, match=r"counts 1000000000000000 episodes, .* lists 6: episodes \[6, 7, 8, 9, 10\]"):
        read_view(old)
    lines = [{"episode_index": 0, "tasks": ["a"], "length": 10**15}]
    (old / "meta/episodes.jsonl").write_text(json.dumps(lines[0]))
    edit(old, total_episodes=1, total_frames=10**15)
    with pytest.raises(DataError, match="hold 6 rows, the episodes say 1000000000000000"):
        read_columns(read_view(old), ["action"])
    (old / "meta/episodes.jsonl").write_text(json.dumps(lines[0] | {"tasks": 5}))
    with pytest.raises(DataError, match="tasks 5, expected texts"):
        read_view(old)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1, 2, 3], [4], [5, 6], [7, 8], [9, 10], [11, 12]], "'action' holds lists of several lengths: [1, 2, 3]"),
        ([[1, 2], None, [5, 6, 7, 8], [7, 8], [9, 10], [11, 12]], "'action' holds 1 empty values"),
        ([[1, 2], [3, None], [5, 6], [7, 8], [9, 10], [11, 12]], "'action' holds 1 empty values"),
    ],
)
def test_rows_of_other_widths_are_not_shifted(foreign: Path, values: list[Any], message: str) -> None:
    put(foreign / "data/chunk-000/file-000.parquet", "action", values, pa.list_(pa.float32()))
    with pytest.raises(DataError, match=re.escape(message)):
        read_columns(read_view(foreign), ["action"])


def test_counts_of_old_datasets(old: Path) -> None:
    original = (old / "meta/info.json").read_text()
    for entries, message in (
        ({"total_episodes": 5}, "counts 5 episodes, meta/episodes lists 6"),
        ({"total_frames": 31}, "the episodes have 32 rows, info.json counts 31"),
        ({"total_tasks": 2}, "counts 2 tasks, the table lists 3"),
        ({"total_episodes": 0}, "has 0 episodes"),
        ({"fps": 0}, "fps is 0, expected frames per second"),
        ({"chunks_size": 0}, "chunks_size is 0"),
    ):
        (old / "meta/info.json").write_text(original)
        edit(old, **entries)
        with pytest.raises(DataError, match=message):
            read_view(old)


def test_damaged_lines_of_json(old: Path) -> None:
    path = old / "meta/tasks.jsonl"
    path.write_bytes(b'{"task_index": 0, "task": "\xff\xfe"}\n')
    with pytest.raises(DataError, match=r"cannot read .*tasks\.jsonl: .*utf-8"):
        read_view(old)
    path.write_text('{"task_index": 0, "task"\n')
    with pytest.raises(DataError, match=r"tasks\.jsonl, line 1"):
        read_view(old)
    path.write_text('{"task_index": 0, "task": 7}\n')
    with pytest.raises(DataError, match="task 0 is 7, expected a text"):
        read_view(old)


def test_a_missing_frame_names_file_episode_and_counts(old: Path) -> None:
    shutil.copy(
        old / "videos/chunk-000/observation.images.front/episode_000003.mp4",
        old / "videos/chunk-000/observation.images.front/episode_000002.mp4",
    )
    with pytest.raises(DataError, match=r"episode 2: .*episode_000002\.mp4 holds 4 frames, its episodes have 9 rows"):
        check_files(read_view(old))
    path = old / "videos/chunk-000/observation.images.front/episode_000002.mp4"
    path.write_bytes(path.read_bytes()[:64])
    with pytest.raises(DataError, match=r"episode 2: .* is not a complete video"):
        check_files(read_view(old))
    path.unlink()
    with pytest.raises(DataError, match=r"episode_000002\.mp4 does not exist"):
        check_files(read_view(old))


def test_timestamps_of_other_frames(old: Path) -> None:
    path = old / "data/chunk-000/episode_000002.parquet"
    table = pq.read_table(path)
    times = table["timestamp"].to_numpy() + np.float32(0.06) * (np.arange(9) == 4)
    place = table.column_names.index("timestamp")
    pq.write_table(table.set_column(place, "timestamp", pa.array(times.astype(np.float32))), path)
    with pytest.raises(DataError, match=r"row 11 has the timestamp 0\.46 s, step 4 at 10 Hz is 0\.4 s"):
        open_dataset(old, card=filled(old))


def test_shapes_of_images() -> None:
    assert image_shape("x", {"shape": [48, 64, 3], "names": ["height", "width", "channel"]}) == (48, 64, 3)
    assert image_shape("x", {"shape": [3, 48, 64], "names": ["channels", "height", "width"]}) == (48, 64, 3)
    assert image_shape("x", {"shape": [3, 48, 64], "names": None}) == (48, 64, 3)
    with pytest.raises(DataError, match="expected height, width and channels"):
        image_shape("x", {"shape": [48, 64]})


def test_capture_times_and_validity(tmp_path: Path, spec: Any, make_episode: Callable[..., Episode]) -> None:
    root = tmp_path / "timed"
    writer = DatasetWriter(root, spec, captured=("image.front", "action"), valid=("image.front",))
    times = np.arange(6, dtype=np.int64) * 100_000_007
    fresh = np.array([True, True, False, True, True, True])
    stamps = {"image.front": times, "action": times + 5}
    writer.append(replace(make_episode(0), captured_ns=stamps, valid={"image.front": fresh}))
    read = open_dataset(root)
    assert np.array_equal(read.captured_ns("image.front"), times)
    assert np.array_equal(read.captured_ns("action"), times + 5) and read.captured_ns("image.wrist") is None
    assert np.array_equal(read.valid("image.front"), fresh) and read.valid("action").all()
    with pytest.raises(KinemaError, match=r"unknown key 'image\.fornt'; did you mean 'image\.front'"):
        read.captured_ns("image.fornt")
    with pytest.raises(KinemaError, match="unknown key"):
        read.valid("reward")
