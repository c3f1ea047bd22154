"""What a LeRobotDataset says beside its frames survives an import, and its frames are decoded one at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kinema.cli.main import main
from kinema.core.config import save
from kinema.core.episode import Episode
from kinema.core.errors import DataError
from kinema.core.spec import RobotSpec
from kinema.data.cards import Card
from kinema.data.image_stream import ImageStream
from kinema.data.importers.base import episodes
from kinema.data.importers.lerobot import lerobot
from kinema.data.lerobot.reader import Dataset, open_dataset
from kinema.data.lerobot.writer import DatasetWriter

KEYS = ("image.front", "vector.proprioception", "action")
LENGTHS = (6, 3, 9)


@pytest.fixture(scope="module")
def lossy(tmp_path_factory: pytest.TempPathFactory, spec: RobotSpec, make_episode: Callable[..., Episode]) -> Dataset:
    """A recording of which rows were lost, as a robot's recorder marks them."""
    root, rng = tmp_path_factory.mktemp("lossy") / "dataset", np.random.default_rng(3)
    writer = DatasetWriter(root, spec, captured=KEYS, valid=KEYS)
    for index, length in enumerate(LENGTHS):
        episode = make_episode(index, length)
        times = {key: np.cumsum(rng.integers(10**7, 10**8, length)) for key in KEYS}
        writer.append(replace(episode, captured_ns=times, valid={key: rng.random(length) > 0.4 for key in KEYS}))
    return open_dataset(root)


def filled(card: Card) -> Card:
    vectors = tuple(replace(v, units=("m",) * len(v.units), frame="world") for v in card.vectors)
    action = replace(
        card.action, units=("m", "m"), frame="world", kind="delta", integrator="arm", low=(-9.0,) * 2, high=(9.0,) * 2,
        gripper=None,
    )  # fmt: skip
    return replace(card, vectors=vectors, action=action)


def test_rows_that_were_lost_stay_marked(lossy: Dataset, tmp_path: Path) -> None:
    source = lerobot(lossy.root)
    card = filled(source.card)
    save(card, tmp_path / "card.json")
    arguments = ["lerobot", str(lossy.root), "--card", str(tmp_path / "card.json"), "--out", str(tmp_path / "in")]
    assert main(["data", "import", *arguments]) == 0
    imported = open_dataset(tmp_path / "in")
    for camera in ("front", "wrist"):
        found = np.asarray(imported.images(camera)).astype(int)
        assert np.abs(found - lossy.images(camera)).mean() < 3
    for key in KEYS:
        assert not lossy.valid(key).all()
        assert np.array_equal(imported.valid(key), lossy.valid(key)), key
        assert np.array_equal(imported.captured_ns(key), lossy.captured_ns(key)), key
    info = json.loads((tmp_path / "in/meta/info.json").read_text())
    flags = {name for name in info["features"] if name.startswith("valid.")}
    assert flags == {"valid.observation.images.front", "valid.observation.state", "valid.action"}


def test_a_key_made_of_two_fields_is_valid_where_both_are(lossy: Dataset) -> None:
    source = lerobot(lossy.root)
    card = filled(source.card)
    state = next(v for v in card.vectors if v.fields == ("observation.state",))
    other = next(v for v in card.vectors if v.fields == ("observation.force",))
    both = replace(
        state, name="both", fields=(*state.fields, *other.fields), components=("x", "y", "f"), units=("m", "m", "N")
    )
    [first, *_] = episodes(source, replace(card, vectors=(both,), cameras=()))
    assert set(first.valid) == {"vector.both", "action"}
    assert np.array_equal(first.valid["vector.both"], lossy.valid("vector.proprioception")[: LENGTHS[0]])


def test_images_are_decoded_when_they_are_gone_through(lossy: Dataset) -> None:
    source = lerobot(lossy.root)
    for index, record in enumerate(lossy.episodes):
        images = source.read(index).fields["observation.images.front"]
        assert isinstance(images, ImageStream) and images.shape == (record.length, 33, 31, 3)
        expected = lossy.images("front")[record.start : record.start + record.length]
        assert np.array_equal(np.asarray(images), expected)
        assert np.array_equal(list(images), expected), "a second time too"
        rows = np.array([0, 0, record.length - 1])
        assert np.array_equal(np.asarray(images.take(rows)), expected[rows])


def test_an_image_of_another_size_is_named() -> None:
    stream = ImageStream(
        name="x.mcap: front", index=np.arange(3), size=(4, 4), read=lambda n: iter([np.zeros((4, 5, 3), np.uint8)] * 3)
    )
    with pytest.raises(DataError, match=r"x\.mcap: front: image 0 is \(4, 5, 3\) uint8, expected \(4, 4, 3\) uint8"):
        list(stream)
