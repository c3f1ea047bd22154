"""Corruptions of the format."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from clean_datasets import edit_json
from corruption_tools import (
    INFO,
    edit_data,
    edit_row,
    episode_rows,
    file_of,
    only,
    place,
    row_of,
    some_camera,
    some_episode,
)

Rng = np.random.Generator
Said = tuple[str, int | None]


def _truncate(path: Path, rng: Rng) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * rng.uniform(0.1, 0.95))])


def info_missing(root: Path, rng: Rng) -> Said:
    (root / INFO).unlink()
    return "info-unreadable", None


def info_truncated(root: Path, rng: Rng) -> Said:
    _truncate(root / INFO, rng)
    return "info-unreadable", None


def info_no_object(root: Path, rng: Rng) -> Said:
    (root / INFO).write_text(str(rng.choice(["[]", "3", "null", "[" * 100_000])))
    return "info-unreadable", None


def info_of_the_future(root: Path, rng: Rng) -> Said:
    edit_json(root / INFO, lambda info: info.update(codebase_version=str(rng.choice(["v3.7", "v4.0", "", "latest"]))))
    return "info-version", None


def info_field_of_another_type(root: Path, rng: Rng) -> Said:
    name = str(rng.choice(["fps", "total_episodes", "total_frames", "features"]))
    edit_json(root / INFO, lambda info: info.update({name: [None, "thirty", [1], -2][int(rng.integers(4))]}))
    return "info-fields", None


def info_counts_episodes_that_are_lost(root: Path, rng: Rng) -> Said:
    edit_json(root / INFO, lambda info: info.update(total_episodes=info["total_episodes"] + int(rng.integers(1, 4))))
    return "episode-missing", None


def total_frames_off(root: Path, rng: Rng) -> Said:
    edit_json(root / INFO, lambda info: info.update(total_frames=info["total_frames"] + int(rng.integers(1, 40))))
    return "totals", None


def total_tasks_off(root: Path, rng: Rng) -> Said:
    edit_json(root / INFO, lambda info: info.update(total_tasks=info["total_tasks"] + 1))
    return "totals", None


def template_leaves_the_directory(root: Path, rng: Rng) -> Said:
    name = str(rng.choice(["data_path", "video_path"]))
    bad = ("../../etc/{chunk_index}", "/etc/passwd", "data/{chunk_index.__class__}", "a/../../{file_index:03d}.parquet")
    edit_json(root / INFO, lambda info: info.update({name: bad[int(rng.integers(len(bad)))]}))
    return "path-template", None


def feature_leaves_the_directory(root: Path, rng: Rng) -> Said:
    def change(info: dict) -> None:
        camera = some_camera(rng)
        info["features"]["../" * int(rng.integers(1, 4)) + camera] = info["features"].pop(camera)

    edit_json(root / INFO, change)
    return "path-template", None


def tasks_missing(root: Path, rng: Rng) -> Said:
    (root / "meta/tasks.parquet").unlink()
    return "tasks-unreadable", None


def tasks_truncated(root: Path, rng: Rng) -> Said:
    _truncate(root / "meta/tasks.parquet", rng)
    return "tasks-unreadable", None


def _write_tasks(root: Path, indices: list[int], texts: list[str | None]) -> None:
    pq.write_table(pa.table({"task_index": indices, "task": pa.array(texts, pa.string())}), root / "meta/tasks.parquet")


def task_text_empty(root: Path, rng: Rng) -> Said:
    texts: list[str | None] = list(pq.read_table(root / "meta/tasks.parquet")["task"].to_pylist())
    texts[int(rng.integers(len(texts)))] = [None, "", "  "][int(rng.integers(3))]
    _write_tasks(root, list(range(len(texts))), texts)
    return "task-text", None


def task_table_with_a_gap(root: Path, rng: Rng) -> Said:
    texts = list(pq.read_table(root / "meta/tasks.parquet")["task"].to_pylist())
    indices = list(range(len(texts)))
    indices[-1] += int(rng.integers(1, 9))
    _write_tasks(root, indices, texts)
    return "task-table", None


def task_index_out_of_table(root: Path, rng: Rng) -> Said:
    episode, bad = some_episode(rng), int(rng.choice([-1, 7, 1_000_000]))
    edit_data(root, episode, lambda columns: columns["task_index"].__setitem__(slice(None), bad))
    return "task-index", episode


def episodes_truncated(root: Path, rng: Rng) -> Said:
    _truncate(file_of(root, "meta/episodes", some_episode(rng)), rng)
    return "episodes-unreadable", None


def episode_row_missing(root: Path, rng: Rng) -> Said:
    episode = some_episode(rng)
    for path, schema, rows in episode_rows(root):
        kept = [row for row in rows if row["episode_index"] != episode]
        pq.write_table(pa.Table.from_pylist(kept, schema=schema), path)
    return "episode-missing", episode


def episode_row_twice(root: Path, rng: Rng) -> Said:
    episode = some_episode(rng)
    for path, schema, rows in episode_rows(root):
        double = [row for row in rows for _ in range(1 + (row["episode_index"] == episode))]
        pq.write_table(pa.Table.from_pylist(double, schema=schema), path)
    return "episode-repeated", episode


def episode_column_missing(root: Path, rng: Rng) -> Said:
    path = file_of(root, "meta/episodes", some_episode(rng))
    names = ["length", "tasks", "data/file_index", "dataset_from_index", f"videos/{some_camera(rng)}/to_timestamp"]
    pq.write_table(pq.read_table(path).drop_columns([str(rng.choice(names))]), path)
    return "episode-columns", None


def episode_length_null(root: Path, rng: Rng) -> Said:
    episode = some_episode(rng)
    edit_row(root, episode, length=None)
    return "episode-columns", episode


def episode_range_shifted(root: Path, rng: Rng) -> Said:
    episode, shift = some_episode(rng), int(rng.integers(1, 9))
    if only(root, episode) is None:
        row = row_of(root, episode)
        edit_row(root, episode, dataset_to_index=row["dataset_to_index"] + shift)
    else:
        row = row_of(root, episode)
        moved = {name: row[name] + shift for name in ("dataset_from_index", "dataset_to_index")}
        edit_row(root, episode, **moved)
    return "episode-range", episode


def stats_missing(root: Path, rng: Rng) -> Said:
    (root / "meta/stats.json").unlink()
    return "stats-unreadable", None


def stats_truncated(root: Path, rng: Rng) -> Said:
    _truncate(root / "meta/stats.json", rng)
    return "stats-unreadable", None


def stats_of_other_data(root: Path, rng: Rng) -> Said:
    feature, name = str(rng.choice(["action", "observation.state"])), str(rng.choice(["mean", "std", "min", "max"]))

    def change(stats: dict) -> None:
        values = stats[feature][name]
        values[0] = values[0] * 1.5 + float(rng.choice([-0.05, 0.05]))

    edit_json(root / "meta/stats.json", change)
    return "stats", None


def episode_stats_of_other_data(root: Path, rng: Rng) -> Said:
    episode = some_episode(rng)
    name = f"stats/{rng.choice(['action', 'observation.state'])}/{rng.choice(['mean', 'std', 'max'])}"
    values = row_of(root, episode)[name]
    edit_row(root, episode, **{name: [values[0] + 0.1, *values[1:]]})
    return "episode-stats", episode


def staging_left(root: Path, rng: Rng) -> Said:
    path = root / ".staging" / f"ep-{rng.integers(100):06d}" / "data.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(rng.bytes(100))
    return "leftovers", None


def temporary_left(root: Path, rng: Rng) -> Said:
    (root / "meta" / f".info.json.{rng.integers(9999)}.tmp").write_bytes(b"{")
    return "leftovers", None


def orphan_left(root: Path, rng: Rng) -> Said:
    kind = str(rng.choice(["data", f"videos/{some_camera(rng)}"]))
    path = place(root, kind)[-1]
    shutil.copy(path, path.with_name(f"file-{rng.integers(100, 900):03d}{path.suffix}"))
    return "leftovers", None


def spec_truncated(root: Path, rng: Rng) -> Said:
    _truncate(root / "meta/kinema.json", rng)
    return "spec-unreadable", None


def spec_of_another_robot(root: Path, rng: Rng) -> Said:
    def change(content: dict) -> None:
        robot = content["spec"]
        if rng.random() < 0.5:
            robot["rate_hz"] = robot["rate_hz"] + 5
        else:
            robot["observation"]["cameras"][0]["height"] = 48

    edit_json(root / "meta/kinema.json", change)
    return "spec-mismatch", None
