"""A dataset that Minari's own DataCollector wrote, with Dict observations, pictures as JPEG and words."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from kinema.core.errors import DataError
from kinema.data.importers.base import episodes
from kinema.data.importers.minari import minari

LOSSY = 8.0


@pytest.fixture
def folder(goldens, tmp_path):
    return Path(shutil.copytree(goldens / "minari/toy/test-v0", tmp_path / "test-v0"))


def filled(card):
    said = {"units": ("m", "m"), "frame": "world", "kind": "delta", "integrator": "environment", "gripper": None}
    action = replace(card.action, **said)
    vectors = tuple(replace(v, units=("m",) * 3, frame="world") for v in card.vectors)
    return replace(card, embodiment="toy", rate_hz=10.0, action=action, vectors=vectors)


def test_the_golden_becomes_a_dataset(folder, golden_script, imported):
    made = golden_script("make_minari")
    source = minari(folder)
    card = source.card
    assert card.instruction == "field:observations/mission" and card.success == "file"
    assert (card.action.low, card.action.high) == ((-1.0, -2.0), (1.0, 2.0))
    assert [v.name for v in card.vectors] == ["pose"] and [c.name for c in card.cameras] == ["camera"]
    dataset = imported(source, filled(card))
    assert [e.length for e in dataset.episodes] == list(made.LENGTHS)
    np.testing.assert_array_equal(dataset.column("action"), np.concatenate([made.actions(0), made.actions(1)]))
    steps = [(e, t) for e in range(2) for t in range(made.LENGTHS[e])]  # the last observation has no action
    poses = np.array([made.observation(e, t)["state"]["pose"] for e, t in steps], np.float32)
    np.testing.assert_array_equal(dataset.column("vector.pose"), poses)
    images = np.array([made.picture(e) for e, _ in steps], float)
    assert np.abs(dataset.images("camera") - images).mean() < LOSSY
    assert [e.success for e in dataset.episodes] == [True, False]
    assert [e.instruction for e in dataset.episodes] == ["mission a", "mission b"]
    assert dataset.episodes[1].origin == {"episode": 1, "dataset": "toy/test-v0"}


def change(folder, **changes):
    path = folder / "data/metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_metadata_that_does_not_fit_is_refused(folder):
    for changes, message in (
        ({"total_episodes": 3}, "metadata counts 3 episodes, there are 2"),
        ({"total_episodes": 2, "total_steps": 9}, "metadata counts 9 steps, there are 8"),
        ({"total_steps": 8, "action_space": "{"}, "action_space is missing or not JSON"),
        ({"action_space": '{"type": "Dict", "subspaces": {"a": {"type": "Box"}}}'}, "has no 'actions/a'"),
        ({"data_format": "arrow"}, "data_format 'arrow', expected 'hdf5'"),
    ):
        change(folder, **changes)
        with pytest.raises(DataError, match=message):
            minari(folder)
    with pytest.raises(DataError, match=r"cannot read .*metadata\.json"):
        minari(folder.parent)


def test_broken_episodes_are_refused(folder):
    source = minari(folder)
    with h5py.File(folder / "data/main_data.hdf5", "a") as file:
        group = file["episode_0"]
        poses = group["observations/state/pose"][:-2]
        del group["observations/state/pose"]
        group["observations/state/pose"] = poses
    with pytest.raises(DataError, match=r"observations/state/pose: shape \(4, 3\) for 5 steps"):
        list(episodes(source, filled(source.card)))
    with h5py.File(folder / "data/main_data.hdf5", "a") as file:
        del file["episode_0/actions"]
        file["episode_0/actions"] = h5py.ExternalLink("other.hdf5", "/x")
    with pytest.raises(DataError, match="is a link"):
        minari(folder)
