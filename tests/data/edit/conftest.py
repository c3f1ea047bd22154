"""A model of a dataset in memory, and the law that a dataset on disk is equal to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kinema.core.episode import Episode
from kinema.core.spec import INSTRUCTION, ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.data.lerobot import layout
from kinema.data.lerobot.check import frame_keys
from kinema.data.lerobot.episode_stats import from_nested, merge, of_rows
from kinema.data.lerobot.files import read_table, write_table
from kinema.data.lerobot.reader import Dataset, EpisodeRecord, open_dataset
from kinema.data.lerobot.writer import DatasetWriter
from kinema.data.video import VideoCodec, encode


@dataclass(frozen=True)
class Row:
    """One episode: its instruction, success, origin and frames by sample key, images as decoded."""

    instruction: str
    success: bool
    origin: dict[str, Any]
    frames: dict[str, np.ndarray]
    captured_ns: dict[str, np.ndarray]
    valid: dict[str, np.ndarray]


@dataclass(frozen=True)
class Model:
    """What a dataset holds."""

    spec: RobotSpec
    episodes: tuple[Row, ...]

    def mapped(self, name: Callable[[str], str | None]) -> Model:
        """Return the model with its keys renamed, and without those whose new name is None."""

        def table(old: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {new: values for key, values in old.items() if (new := name(key)) is not None}

        rows = [
            replace(row, frames=table(row.frames), captured_ns=table(row.captured_ns), valid=table(row.valid))
            for row in self.episodes
        ]
        return replace(self, episodes=tuple(rows))


def _model(dataset: Dataset) -> Model:
    images = {c.key: np.asarray(dataset.images(c.name)) for c in dataset.spec.observation.cameras}
    keys = [key for key in frame_keys(dataset.spec) if not key.startswith("image.")]
    columns = images | {key: dataset.column(key) for key in keys}
    names = list(layout.read_info(dataset.root)["features"])
    tables = [read_table(path) for path in sorted(dataset.root.glob("data/*/*.parquet"))]
    timing = {
        prefix: {
            layout.sample_key(name[len(prefix) :]): np.concatenate([t[name].to_numpy() for t in tables])
            for name in names
            if name.startswith(prefix)
        }
        for prefix in (layout.CAPTURED, layout.VALID)
    }

    def rows(table: dict[str, np.ndarray], e: EpisodeRecord) -> dict[str, np.ndarray]:
        return {key: values[e.start : e.start + e.length].copy() for key, values in table.items()}

    return Model(
        dataset.spec,
        tuple(
            Row(
                e.instruction,
                e.success,
                dict(e.origin),
                rows(columns, e),
                rows(timing[layout.CAPTURED], e),
                rows(timing[layout.VALID], e),
            )
            for e in dataset.episodes
        ),
    )


def _check(root: Path, model: Model) -> Dataset:
    """Assert that the dataset at `root` is the model, bit for bit, and that all its numbers are right."""
    dataset = open_dataset(root)
    assert dataset.spec == model.spec
    found = _model(dataset)
    assert len(found.episodes) == len(model.episodes)
    for have, want in zip(found.episodes, model.episodes, strict=True):
        assert (have.instruction, have.success, have.origin) == (want.instruction, want.success, want.origin)
        assert want.frames.keys() == set(model.spec.observation.keys) - {INSTRUCTION} | {"action"}
        for mine, theirs in (
            (have.frames, want.frames),
            (have.captured_ns, want.captured_ns),
            (have.valid, want.valid),
        ):
            assert mine.keys() == theirs.keys()
            for key, values in theirs.items():
                assert mine[key].dtype == values.dtype
                assert np.array_equal(mine[key], values), key
    _check_numbers(root, dataset, model)
    return dataset


def _check_numbers(root: Path, dataset: Dataset, model: Model) -> None:
    lengths = [len(row.frames["action"]) for row in model.episodes]
    info = layout.read_info(root)
    tasks = list(dict.fromkeys(row.instruction for row in model.episodes))
    assert (info["total_episodes"], info["total_frames"]) == (len(lengths), sum(lengths))
    assert (info["total_tasks"], list(dataset.tasks)) == (len(tasks), tasks)
    assert info["splits"] == {"train": f"0:{len(lengths)}"}
    assert dataset.provenance[0]["from_episode"] == 0
    firsts = [entry["from_episode"] for entry in dataset.provenance]
    assert firsts == sorted(set(firsts)) and firsts[-1] < len(lengths)
    table = [read_table(path) for path in sorted(root.glob("data/*/*.parquet"))]
    columns = {name: np.concatenate([t[name].to_numpy() for t in table]) for name in layout.DEFAULT_FEATURES}
    assert np.array_equal(columns["index"], np.arange(sum(lengths)))
    assert np.array_equal(columns["episode_index"], np.repeat(np.arange(len(lengths)), lengths))
    steps = np.concatenate([np.arange(n) for n in lengths])
    assert np.array_equal(columns["timestamp"], (steps / info["fps"]).astype(np.float32))
    stats = from_nested(layout.read_json(root / layout.STATS))
    assert set(stats) == set(info["features"])
    for key in ("action", *(vector.key for vector in model.spec.observation.vectors)):
        total = None
        for row in model.episodes:
            total = merge(total, of_rows(row.frames[key]))
        for name, value in (total or {}).items():
            assert np.allclose(stats[layout.feature_key(key)][name], value, rtol=0, atol=1e-6), (key, name)
        rows = np.concatenate([row.frames[key] for row in model.episodes]).astype(np.float64)
        assert np.allclose(stats[layout.feature_key(key)]["std"], rows.std(axis=0), rtol=0, atol=1e-6)
    assert stats["index"]["max"].tolist() == [sum(lengths) - 1] and stats["index"]["count"].tolist() == [sum(lengths)]


def _share_videos(root: Path, spec: RobotSpec, episodes: list[Episode]) -> None:
    """Put all episodes' frames into one video file per camera, as compaction does; their lengths are even.

    With two frames a group and even lengths, one encoding of all frames has a key frame where each episode begins.
    """
    for camera in spec.observation.cameras:
        folder = root / f"videos/{layout.feature_key(camera.key)}/chunk-000"
        for path in folder.iterdir():
            path.unlink()
        encode(np.concatenate([e.frames[camera.key] for e in episodes]), folder / "file-000.mp4", 10, VideoCodec())
    start = 0
    for index, episode in enumerate(episodes):
        path = root / f"meta/episodes/chunk-000/file-{index:03d}.parquet"
        table = read_table(path)
        for camera in spec.observation.cameras:
            prefix = f"videos/{layout.feature_key(camera.key)}"
            for name, value in (("file_index", 0), ("from_timestamp", start / 10)):
                at = table.schema.get_field_index(f"{prefix}/{name}")
                table = table.set_column(at, f"{prefix}/{name}", pa.array([value], table.schema.field(at).type))
        write_table(table, path)
        start += len(episode)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, spec: RobotSpec, make_episode: Callable[..., Episode]) -> Path:
    """A dataset whose three episodes share one video file per camera."""
    root = tmp_path_factory.mktemp("shared") / "dataset"
    writer = DatasetWriter(root, spec, provenance={"command": "tests"})
    episodes = [make_episode(index, length) for index, length in enumerate((4, 2, 6))]
    for episode in episodes:
        writer.append(episode)
    _share_videos(root, spec, episodes)
    return root


@pytest.fixture(scope="session")
def timed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Model]:
    """A tiny dataset with capture times and validity, whose three episodes share their videos, and its model."""
    root = tmp_path_factory.mktemp("timed") / "dataset"
    observation = ObservationSpec(
        cameras=(Camera(name="a", height=16, width=16), Camera(name="b", height=16, width=18)),
        vectors=(Vector(name="proprioception", components=("x", "y"), units=("m", "m"), frame="world"),),
        instruction=True,
    )
    action = ActionSpec(
        components=("dx",), units=("m",), frame="world", kind="end-effector delta position", integrator="controller",
        low=(-1.0,), high=(1.0,),
    )  # fmt: skip
    spec = RobotSpec(embodiment="tiny", rate_hz=10.0, observation=observation, action=action)
    rng = np.random.default_rng(0)
    captured, valid = ("image.a", "action"), ("image.a", "vector.proprioception")
    episodes = [
        Episode(
            instruction=f"task {index % 2}",
            success=index != 1,
            origin={"episode": index},
            frames={
                "image.a": rng.integers(0, 255, (length, 16, 16, 3), np.uint8),
                "image.b": rng.integers(0, 255, (length, 16, 18, 3), np.uint8),
                "vector.proprioception": rng.normal(size=(length, 2)).astype(np.float32),
                "action": rng.normal(size=(length, 1)).astype(np.float32),
            },
            captured_ns={key: np.cumsum(rng.integers(10**8, 2 * 10**8, length)) for key in captured},
            valid={key: rng.random(length) > 0.3 for key in valid},
        )
        for index, length in enumerate((4, 2, 6))
    ]
    writer = DatasetWriter(root, spec, captured=captured, valid=valid, provenance={"command": "tests"})
    for episode in episodes:
        writer.append(episode)
    _share_videos(root, spec, episodes)
    dataset = open_dataset(root)
    return dataset, _model(dataset)


@pytest.fixture(scope="session")
def model_of() -> Callable[[Dataset], Model]:
    return _model


@pytest.fixture(scope="session")
def check() -> Callable[[Path, Model], Dataset]:
    return _check


@pytest.fixture(autouse=True, scope="session")
def unflushed() -> Iterator[None]:
    """Nothing is flushed to disk: no test here cuts the power, and a busy disk takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda number: None)
        yield
