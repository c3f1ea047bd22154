"""Frames that are resized as they are decoded: the cache, several threads, a stream, and what a window says of them."""

from __future__ import annotations

import itertools
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from kinema.data.lerobot.reader import Dataset, open_dataset
from kinema.data.loader import Loader
from kinema.data.stream import stream
from kinema.data.windows import Windows
from kinema.transforms.resize import Resize

SMALL = Resize(height=16, width=12)


@pytest.fixture
def copy(tmp_path: Path, recorded: Path) -> Path:
    shutil.copytree(recorded, tmp_path / "copy", ignore=shutil.ignore_patterns(".cache"))
    return tmp_path / "copy"


@pytest.fixture(scope="module")
def expected(dataset: Dataset) -> np.ndarray:
    return np.stack([SMALL.image(image) for image in dataset.images("front")])


def test_what_is_kept_is_what_the_transform_makes_of_each_frame(copy: Path, expected: np.ndarray) -> None:
    frames = open_dataset(copy).frames("front", resize=SMALL)
    assert frames.shape == (32, 16, 12, 3)
    rows = np.array([[5, 6], [31, 0]])
    assert np.array_equal(frames.read(rows), expected[rows])
    assert np.array_equal(frames.fill(), expected)
    again = open_dataset(copy).frames("front", resize=SMALL)
    assert not len(again.missing()) and np.array_equal(again.read(np.arange(32)), expected)
    assert frames.path.stat().st_size == 32 * 16 * 12 * 3, "no whole frame is kept"
    assert [path.name for path in frames.path.parent.glob("*.u8")] == ["image.front@16x12-bilinear.u8"]


def test_sizes_do_not_mix(copy: Path, dataset: Dataset, expected: np.ndarray) -> None:
    """As many bytes a frame in another shape, the source's own size, and all of them from one dataset at once."""
    opened = open_dataset(copy)
    turned = Resize(height=12, width=16)
    kept = [opened.frames("front", resize=size) for size in (SMALL, turned, None)]
    assert np.array_equal(kept[0].fill(), expected)
    assert np.array_equal(kept[1].fill(), np.stack([turned.image(image) for image in dataset.images("front")]))
    assert np.array_equal(kept[2].fill(), dataset.images("front"))
    assert len({frames.path for frames in kept}) == 3 and opened.frames("front", resize=SMALL) is kept[0]


def test_a_changed_dataset_is_decoded_and_resized_anew(copy: Path) -> None:
    first = open_dataset(copy).frames("front", resize=SMALL)
    first.fill()
    (copy / "meta/tasks.parquet").touch()
    info = copy / "meta/info.json"
    info.write_text(info.read_text("utf-8") + "\n", "utf-8")
    second = open_dataset(copy).frames("front", resize=SMALL)
    assert second.path.parent != first.path.parent and len(second.missing()) == 32
    assert not first.path.exists(), "the cache of other contents is gone"


def test_a_window_says_the_size_that_it_shows(dataset: Dataset, expected: np.ndarray) -> None:
    frames = partial(dataset.frames, resize=SMALL)
    windows = Windows(dataset, obs_horizon=2, pred_horizon=1, keys=("image.front", "vector.force"), frames=frames)
    assert windows.spec.observation.shape("image.front") == (16, 12, 3)
    batch = windows.batch(np.array([3, 8]))["image.front"]
    assert np.array_equal(batch, expected[np.array([[2, 3], [7, 8]])])


def test_stream_threads_and_cache_agree(copy: Path, dataset: Dataset) -> None:
    """A stream that holds few frames, which are dropped and decoded again, against the cache."""
    frame = 2 * SMALL.height * SMALL.width * 3
    opened = open_dataset(copy)
    loader = stream(
        opened, obs_horizon=2, pred_horizon=3, batch_size=4, seed=2, memory_bytes=20 * frame, chunk=4, resize=SMALL
    )
    windows = Windows(dataset, obs_horizon=2, pred_horizon=3, frames=partial(dataset.frames, resize=SMALL))
    cached = Loader(windows, batch_size=4, seed=2, prefetch=3, draws=loader.indices)
    both = zip(loader.batches(), cached.batches(), strict=True)
    for streamed, kept in itertools.islice(both, 16):
        assert all(np.array_equal(streamed[key], value) for key, value in kept.items())
    assert not list((copy / ".cache").rglob("*.u8"))
