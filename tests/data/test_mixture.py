"""Mixtures: one robot from several datasets, several robots padded and masked, misfits named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinema.core.episode import Episode
from kinema.core.errors import KinemaError, SpecMismatch
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.data.lerobot.reader import Dataset, open_dataset
from kinema.data.lerobot.writer import DatasetWriter
from kinema.data.mixture import Mixture, Part, statistics_by_robot
from kinema.data.stats import statistics
from kinema.data.windows import Windows
from kinema.transforms.normalise import Normalise


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Another robot: three action components, a wider vector, one camera under another name."""
    spec = RobotSpec(
        embodiment="widearm",
        rate_hz=10.0,
        observation=ObservationSpec(
            cameras=(Camera(name="table", height=33, width=31),),
            vectors=(Vector(name="joints", components=tuple("abcd"), units=("rad",) * 4, frame="base"),),
            instruction=True,
        ),
        action=ActionSpec(
            components=tuple("abc"),
            units=("rad",) * 3,
            frame="base",
            kind="joint position",
            integrator="robot",
            low=(-9.0,) * 3,
            high=(9.0,) * 3,
        ),
    )
    root = tmp_path_factory.mktemp("wide") / "wide"
    writer, rng = DatasetWriter(root, spec), np.random.default_rng(3)
    for index in range(2):
        frames = {
            "image.table": np.full((5, 33, 31, 3), 90 + index, np.uint8),
            "vector.joints": rng.normal(5.0, 2.0, (5, 4)).astype(np.float32),
            "action": rng.normal(-3.0, 4.0, (5, 3)).astype(np.float32),
        }
        writer.append(Episode(instruction="fold", frames=frames, success=True, origin={"episode": index}))
    return open_dataset(root)


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory, spec: RobotSpec, make_episode: Callable[..., Episode]) -> Dataset:
    """More of the robot of `dataset`."""
    root = tmp_path_factory.mktemp("second") / "second"
    writer = DatasetWriter(root, spec)
    for index in (20, 21):
        writer.append(make_episode(index, 4))
    return open_dataset(root)


def narrow(dataset: Dataset, **options: Any) -> Windows:
    return Windows(dataset, obs_horizon=2, pred_horizon=3, keys=("image.front", "vector.proprioception", "instruction"))


RENAME = {"image.table": "image.front", "vector.joints": "vector.proprioception"}


def test_one_robot_is_what_its_parts_are(dataset: Dataset, second: Dataset) -> None:
    parts = [Part(windows=narrow(dataset)), Part(windows=narrow(second))]
    mixture = Mixture(parts)
    assert len(mixture) == 40 and mixture.sizes == (32, 8)
    mixed = np.array([39, 0, 31, 32, 5, 5])
    batch = mixture.batch(mixed)
    alone = [parts[0].windows.batch(mixed[mixed < 32]), parts[1].windows.batch(mixed[mixed >= 32] - 32)]
    assert set(batch) == set(alone[0]), "no mask where nothing is padded"
    for key in batch:
        for rows, expected in ((mixed < 32, alone[0]), (mixed >= 32, alone[1])):
            assert np.array_equal(np.asarray(batch[key])[rows], np.asarray(expected[key])), key
        assert type(batch[key]) is type(alone[0][key])
    assert (
        batch["action"].dtype == np.float32 and batch["mask"].dtype == bool and batch["image.front"].dtype == np.uint8
    )
    with pytest.raises(KinemaError, match="there are windows 0 to 39"):
        mixture.batch(np.array([40]))


def test_pooled_statistics_are_those_of_all_rows(dataset: Dataset, second: Dataset) -> None:
    parts = [Part(windows=narrow(dataset)), Part(windows=narrow(second))]
    [(robot, pooled)] = statistics_by_robot(parts).items()
    assert robot == ("testarm", "end-effector delta position")
    rows = np.concatenate([dataset.column("action"), second.column("action")]).astype(np.float64)
    assert np.allclose(pooled["action"]["mean"], rows.mean(0)) and np.allclose(pooled["action"]["std"], rows.std(0))
    assert np.allclose(pooled["action"]["q99"], np.quantile(rows, 0.99, axis=0))
    [alone] = statistics_by_robot(parts[:1]).values()
    for key, entry in alone.items():
        for name, value in entry.items():
            assert np.array_equal(value, statistics(dataset)[key][name]), "bit by bit for one dataset"


def test_robots_are_normalised_each_by_its_own_and_padded(dataset: Dataset, wide: Dataset) -> None:
    plain = [Part(windows=narrow(dataset)), Part(windows=Windows(wide, obs_horizon=2, pred_horizon=3), rename=RENAME)]
    known = statistics_by_robot(plain)
    assert set(known) == {("testarm", "end-effector delta position"), ("widearm", "joint position")}
    modes = {"action": "mean_std", "vector.proprioception": "mean_std"}
    parts = [replace(part, transform=Normalise(modes=modes).fit(known[part.robot])) for part in plain]
    mixture = Mixture(parts)
    batch = mixture.batch(np.arange(len(mixture)))
    own = np.arange(42) < 32
    assert batch["action"].shape == (42, 3, 3) and batch["vector.proprioception"].shape == (42, 2, 4)
    assert (batch["action"][own, :, 2] == 0).all() and (batch["vector.proprioception"][own, :, 2:] == 0).all()
    assert np.array_equal(batch["components.action"][[0, 41]], [[True, True, False], [True] * 3])
    assert np.array_equal(batch["components.vector.proprioception"][[0, 41]], [[True, True, False, False], [True] * 4])
    for rows, width in ((own, 2), (~own, 3)):
        first = batch["action"][rows, 0, :width]
        assert np.allclose(first.mean(0), 0, atol=1e-5) and np.allclose(first.std(0), 1, atol=1e-4)
    assert set(batch["instruction"][-10:]) == {"fold"} and batch["instruction"][0] == "do thing 0"
    assert batch["embodiment"] == ["testarm"] * 32 + ["widearm"] * 10
    assert (batch["image.front"][41] == wide.images("table")[9]).all()


def test_a_missing_camera_is_an_error_unless_zeros_are_asked_for(dataset: Dataset, second: Dataset) -> None:
    both = ("image.front", "image.wrist", "vector.force")
    whole = Part(windows=Windows(dataset, obs_horizon=1, pred_horizon=2, keys=both))
    blind = Part(windows=Windows(second, obs_horizon=1, pred_horizon=2, keys=("image.front",)))
    with pytest.raises(SpecMismatch, match=r"second has no 'image\.wrist'; did you mean 'image\.front'"):
        Mixture([whole, blind])
    batch = Mixture([whole, blind], missing="zeros").batch(np.array([0, 33]))
    assert batch["present.image.wrist"].tolist() == [True, False] and "present.image.front" not in batch
    assert batch["image.wrist"][0].any() and not batch["image.wrist"][1].any()
    assert batch["components.vector.force"].tolist() == [[True], [False]] and "components.action" not in batch


def test_misfits_are_named(dataset: Dataset, second: Dataset, wide: Dataset) -> None:
    front = Part(windows=narrow(dataset))
    for rename, message in (
        ({"image.tabel": "image.front"}, r"wide: no observation 'image\.tabel' to rename; did you mean 'image\.table'"),
        ({"image.table": "vector.front"}, "of another kind"),
    ):
        with pytest.raises(SpecMismatch, match=message):
            Part(windows=Windows(wide, obs_horizon=2, pred_horizon=3), rename=rename)
    twice = {"image.front": "image.wrist"}
    with pytest.raises(SpecMismatch, match="two observations would have one name"):
        Part(windows=Windows(dataset, obs_horizon=2, pred_horizon=3), rename=twice)
    small = Windows(second, obs_horizon=2, pred_horizon=3, keys=("image.wrist", "vector.proprioception", "instruction"))
    with pytest.raises(SpecMismatch, match=r"image\.front is \(2, 33, 31, 3\) uint8 in .*, but \(2, 24, 32, 3\)"):
        Mixture([front, Part(windows=small, rename={"image.wrist": "image.front"})])
    longer = Windows(second, obs_horizon=2, pred_horizon=4, keys=front.windows.spec.observation.keys)
    with pytest.raises(SpecMismatch, match=r"action is \(3, 2\)"):
        Mixture([front, Part(windows=longer)])
    silent = Windows(second, obs_horizon=2, pred_horizon=3, keys=("image.front", "vector.proprioception"))
    with pytest.raises(SpecMismatch, match="second has no 'instruction'"):
        Mixture([front, Part(windows=silent)], missing="zeros")
    with pytest.raises(KinemaError, match="no datasets"):
        Mixture([])


def test_one_name_for_two_robots_is_found(dataset: Dataset, tmp_path: Path, spec: RobotSpec, make_episode: Any) -> None:
    other = replace(spec, action=replace(spec.action, units=("cm", "cm")))
    DatasetWriter(tmp_path / "cm", other).append(make_episode(1))
    parts = [Part(windows=narrow(dataset)), Part(windows=narrow(open_dataset(tmp_path / "cm")))]
    with pytest.raises(SpecMismatch, match=r"cm and dataset are both testarm .* different things by 'action'"):
        statistics_by_robot(parts)
