"""A recipe and a dataset brought together: what depends on what."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from kinema.actions.poses import COMPONENTS, LAYOUT, UNITS, pose, to_vector
from kinema.core.episode import Episode
from kinema.core.errors import DataError, KinemaError, SpecMismatch
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.data.lerobot.reader import Dataset, open_dataset
from kinema.data.lerobot.writer import DatasetWriter
from kinema.heads.regression import Regression
from kinema.heads.vq_bet import VqBet
from kinema.nets.encoders.film_cnn import FilmCnn
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.encoders.words import Words
from kinema.nets.trunks.fusion import Fusion
from kinema.policies.base import PolicyConfig
from kinema.policies.network import fingerprint
from kinema.recipes._samples import paraphrases
from kinema.recipes.base import DataConfig, Prepared, Recipe, prepare
from kinema.train.config import TrainConfig
from kinema.transforms.normalise import Normalise
from kinema.transforms.relative_action import RelativeAction

EPISODES, LENGTH = 6, 7
ROBOT = RobotSpec(
    embodiment="arm",
    rate_hz=10.0,
    observation=ObservationSpec(
        cameras=(Camera(name="front", height=16, width=16),),
        vectors=(Vector(name="proprioception", components=("x",), units=("m",), frame="world"),),
        instruction=True,
    ),
    action=ActionSpec(
        components=("dx",),
        units=("m",),
        frame="world",
        kind="delta",
        integrator="controller",
        low=(-99.0,),
        high=(99.0,),
    ),
)
RECIPE = Recipe(
    policy=PolicyConfig(
        encoders={
            "front": FilmCnn(camera="front", condition=None, channels=(4,), strides=(2,), keypoints=2),
            "proprioception": Proprioception(hidden=4),
        },
        trunk=Fusion(blocks=1),
        head=Regression(blocks=1),
        transforms=(Normalise(modes={"action": "mean_std"}),),
        width=4,
        pred_horizon=4,
        exec_horizon=2,
    ),
    train=TrainConfig(steps=1000, batch_size=5),
    data=DataConfig(held_out_fraction=0.2, random_shift=2),
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return recorded(tmp_path_factory.mktemp("recipes") / "data", range(EPISODES))


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return recorded(tmp_path_factory.mktemp("recipes") / "second", (50, 51))


def recorded(root: Path, values: Iterable[int], robot: RobotSpec = ROBOT, success: bool = True) -> Dataset:
    """Return a dataset of one episode for each of `values`, whose action is that value throughout."""
    writer = DatasetWriter(root, robot, provenance={"command": "tests"})
    rng = np.random.default_rng(0)
    for index in values:
        ramp = np.linspace(0, 255, 16)[:, None, None] * np.ones((16, 16, 3))
        frames = {
            "image.front": np.broadcast_to(ramp.astype(np.uint8), (LENGTH, 16, 16, 3)).copy(),
            "vector.proprioception": rng.normal(size=(LENGTH, 1)).astype(np.float32),
            "action": np.full((LENGTH, 1), float(index), np.float32),
        }
        writer.append(Episode(instruction="go", frames=frames, success=success, origin={"task": "a", "episode": index}))
    return open_dataset(root)


def test_statistics_come_from_the_training_episodes_alone(dataset: Dataset) -> None:
    prepared = prepare(RECIPE, dataset)
    assert len(prepared.train_episodes) == 5 and len(prepared.held_out_episodes) == 1
    assert not set(prepared.train_episodes) & set(prepared.held_out_episodes)
    [normalise] = prepared.policy.transforms
    statistics = normalise.statistics["action"]
    assert statistics["mean"].tolist() == pytest.approx([np.mean(prepared.train_episodes)])
    assert statistics["std"].tolist() == pytest.approx([np.std(prepared.train_episodes)])
    assert RECIPE.policy.transforms[0].statistics is None, "the recipe stays as it was"
    assert prepared.spec.observation.keys == ("image.front", "vector.proprioception"), "no instruction is read"


def test_batches_are_transformed_and_held_out_ones_are_not_shifted(dataset: Dataset) -> None:
    prepared = prepare(RECIPE, dataset)
    batch = next(prepared.batches(0))
    assert batch["action"].shape == (5, 4, 1) and batch["mask"].shape == (5, 4)
    statistics = prepared.policy.transforms[0].statistics["action"]
    unscaled = batch["action"] * statistics["std"] + statistics["mean"]
    assert set(np.round(unscaled).ravel()) <= set(map(float, prepared.train_episodes))
    held_out = list(prepared.held_out())
    assert [len(part["action"]) for part in held_out] == [5, 2]
    stored = {image.tobytes() for image in dataset.images("front")}
    assert all(image[0].tobytes() in stored for part in held_out for image in part["image.front"])
    assert not all(image[0].tobytes() in stored for image in batch["image.front"])


def identity(prepared: Prepared) -> str:
    return fingerprint(prepared.policy, prepared.spec, prepared.network)


def test_weights_and_batches_follow_the_seed_alone(dataset: Dataset) -> None:
    first = prepare(RECIPE, dataset)
    torch.manual_seed(99)
    again = prepare(RECIPE, dataset)
    other = prepare(replace(RECIPE, train=replace(RECIPE.train, seed=1)), dataset)
    assert identity(first) == identity(again) != identity(other)
    for key, value in next(first.batches(3)).items():
        assert np.array_equal(value, next(again.batches(3))[key])
    whole = first.batches(0)
    for _ in range(3):
        next(whole)
    assert np.array_equal(next(whole)["image.front"], next(again.batches(3))["image.front"]), "training can go on at 3"


def test_without_held_out_episodes_there_is_nothing_to_measure(dataset: Dataset) -> None:
    prepared = prepare(replace(RECIPE, data=DataConfig(held_out_fraction=0.0)), dataset)
    assert prepared.held_out is None and prepared.held_out_episodes == () and len(prepared.train_episodes) == EPISODES


def test_misfits_and_wrong_options_are_named(dataset: Dataset) -> None:
    blind = replace(RECIPE, policy=replace(RECIPE.policy, encoders={"c": FilmCnn(camera="frint", condition=None)}))
    with pytest.raises(SpecMismatch, match=r"no observation 'image\.frint'; did you mean 'image\.front'"):
        prepare(blind, dataset)
    unknown = replace(RECIPE, policy=replace(RECIPE.policy, transforms=(Normalise(modes={"vector.x": "min_max"}),)))
    with pytest.raises(KinemaError, match=r"no statistics of 'vector\.x'"):
        prepare(unknown, dataset)
    for options in ({"held_out_fraction": 1.0}, {"held_out_fraction": -0.1}, {"random_shift": -1}):
        with pytest.raises(KinemaError, match="out of range"):
            DataConfig(**options)


def test_a_run_too_short_for_its_head_is_refused_before_anything_is_read(dataset: Dataset) -> None:
    steps = RECIPE.train.steps
    staged = replace(RECIPE, policy=replace(RECIPE.policy, head=VqBet(quantiser_steps=steps)))
    with pytest.raises(
        KinemaError, match=f"quantiser_steps {steps} leave the predictor none of the run's {steps} steps"
    ):
        prepare(staged, dataset)


def wordy(root: Path, **changes: Any) -> Dataset:
    """Two tasks with two wordings each, and one wording that both use."""
    writer = DatasetWriter(root, ROBOT)
    told = [("a", "open"), ("a", "pull"), ("a", "go"), ("b", "shut"), ("b", "push"), ("b", "go")]
    for index, (task, text) in enumerate(told):
        frames = {
            "image.front": np.zeros((3, 16, 16, 3), np.uint8),
            "vector.proprioception": np.full((3, 1), float(index), np.float32),
            "action": np.full((3, 1), float(index), np.float32),
        }
        writer.append(
            Episode(
                instruction=text,
                frames=frames,
                success=changes.get("success", True),
                origin={"task": task, "episode": index},
            )
        )
    return open_dataset(root)


def test_a_sample_is_told_any_wording_of_its_own_task(tmp_path: Path) -> None:
    dataset = wordy(tmp_path / "data")
    assert paraphrases(dataset.episodes) == {
        "open": ("go", "open", "pull"),
        "pull": ("go", "open", "pull"),
        "shut": ("go", "push", "shut"),
        "push": ("go", "push", "shut"),
        "go": ("go",),
    }
    encoders = {"words": Words(), **RECIPE.policy.encoders}
    recipe = replace(RECIPE, policy=replace(RECIPE.policy, encoders=encoders), data=DataConfig(held_out_fraction=0.0))
    batches = prepare(recipe, dataset).batches(0)
    heard = {text for _ in range(40) for text in next(batches)["instruction"]}
    assert heard == {"open", "pull", "go", "shut", "push"}
    own = prepare(replace(recipe, data=replace(recipe.data, paraphrase=False)), dataset).batches(0)
    statistics = prepare(recipe, dataset).policy.transforms[0].statistics["action"]
    for batch in (next(own) for _ in range(10)):
        episode = np.round(batch["action"][:, 0, 0] * statistics["std"] + statistics["mean"]).astype(int)
        assert batch["instruction"] == [dataset.episodes[index].instruction for index in episode]


def test_a_task_that_changes_within_an_episode_is_told_as_it_is(tmp_path: Path) -> None:
    path = wordy(tmp_path / "data").root / "data/chunk-000/file-001.parquet"
    table = pq.read_table(path)
    place = table.column_names.index("task_index")
    pq.write_table(table.set_column(place, "task_index", pa.array([0, 1, 1])), path)
    dataset = open_dataset(tmp_path / "data")
    assert [episode.instruction for episode in dataset.episodes[:2]] == ["open", "open"]
    encoders = {"words": Words(), **RECIPE.policy.encoders}
    recipe = replace(RECIPE, policy=replace(RECIPE.policy, encoders=encoders), data=DataConfig(held_out_fraction=0.0))
    batches = prepare(recipe, dataset).batches(0)
    assert "pull" in {text for _ in range(20) for text in next(batches)["instruction"]}


def test_failed_demonstrations_are_not_imitated(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="6 of 6 episodes are marked as failures"):
        prepare(RECIPE, wordy(tmp_path / "data", success=False))


def with_data(**options: Any) -> Recipe:
    return replace(RECIPE, data=replace(RECIPE.data, **options))


def values(prepared: Prepared, steps: int, start: int = 0) -> np.ndarray:
    """Return which episodes' actions the batches of some steps hold, (steps, B)."""
    statistics, batches = prepared.policy.transforms[0].statistics["action"], prepared.batches(start)
    actions = np.stack([next(batches)["action"][:, 0, 0] for _ in range(steps)])
    return np.round(actions * statistics["std"] + statistics["mean"]).astype(int)


def test_several_datasets_are_one_mixture(dataset: Dataset, second: Dataset) -> None:
    recipe = with_data(weights=(1.0, 4.0), weights_mean="replace")
    prepared = prepare(recipe, dataset, second)
    assert prepared.share == (0.2, 0.8)
    drawn = values(prepared, 10)
    assert ((drawn >= 50).sum(axis=1) == 4).all(), "four of every five samples, in each batch"
    assert set(drawn.ravel()) == {*prepared.train_episodes} - {6, 7} | {50, 51}
    assert prepared.train_episodes[-2:] == (6, 7) and len(prepared.held_out_episodes) == 1, "numbered through both"
    statistics = prepared.policy.transforms[0].statistics["action"]
    rows = [*prepared.train_episodes[:-2], 50, 51]
    assert statistics["mean"].tolist() == pytest.approx([np.mean(rows)]), "of all rows, whatever their weight"
    assert np.array_equal(values(prepared, 3, start=7), drawn[7:])
    assert [len(part["action"]) for part in prepared.held_out()] == [5, 2]
    by_frames = prepare(RECIPE, dataset, second)
    assert by_frames.share == pytest.approx((5 / 7, 2 / 7)) and identity(by_frames) == identity(prepared)
    assert prepare(with_data(alpha=0.0), dataset, second).share == (0.5, 0.5)


def test_datasets_that_cannot_be_mixed_are_named(dataset: Dataset, second: Dataset, tmp_path: Path) -> None:
    other = recorded(tmp_path / "other", (1,), replace(ROBOT, embodiment="leg"))
    with pytest.raises(SpecMismatch, match=r"other does not fit .*data:\n.*embodiment: 'leg', expected 'arm'"):
        prepare(RECIPE, dataset, other)
    with pytest.raises(KinemaError, match="say whether they multiply"):
        prepare(with_data(weights=(1.0, 2.0)), dataset, second)
    with pytest.raises(KinemaError, match="there is one"):
        prepare(with_data(alpha=0.5), dataset)
    with pytest.raises(KinemaError, match="oxe-magic-soup has no dataset 'data'"):
        prepare(with_data(weights="oxe-magic-soup"), dataset, second)


def listed(path: Path, **content: Any) -> Recipe:
    path.write_text(json.dumps(content), "utf-8")
    return with_data(exclude=(str(path),))


def test_excluded_episodes_are_neither_trained_on_nor_held_out(
    dataset: Dataset, second: Dataset, tmp_path: Path
) -> None:
    whole = prepare(RECIPE, dataset)
    out = whole.train_episodes[1]
    reasons = {str(out): ["idle 0.62 above 0.5"]}
    recipe = listed(tmp_path / "own.json", dataset=dataset.content_hash, episodes=[out], reasons=reasons)
    prepared = prepare(recipe, dataset)
    assert prepared.excluded_episodes == (out,) and prepared.held_out_episodes == whole.held_out_episodes
    assert prepared.train_episodes == tuple(e for e in whole.train_episodes if e != out)
    assert set(values(prepared, 12).ravel()) == set(prepared.train_episodes)
    assert prepare(recipe, second, dataset).excluded_episodes == (2 + out,), "the list finds its dataset"
    held = listed(tmp_path / "held.json", episodes=list(whole.held_out_episodes))
    assert prepare(held, dataset).held_out is None
    failed = recorded(tmp_path / "failed", (1, 2), success=False)
    with pytest.raises(DataError, match=r"1 of 2 episodes are marked as failures, such as 1; .* or exclude them"):
        prepare(listed(tmp_path / "f.json", episodes=[0]), failed)


def test_exclusion_lists_that_do_not_fit_are_named(dataset: Dataset, second: Dataset, tmp_path: Path) -> None:
    for content, message in (
        ({"dataset": second.content_hash, "episodes": [0]}, r"is for the dataset .*, but data is .*\nfix: score"),
        ({"episodes": [6]}, "no episode 6; .* has episodes 0 to 5"),
        ({"episodes": list(range(6))}, "nothing is left"),
        ({"episodes": [1, 1]}, "listed twice"),
        ({"episodes": "1"}, "expected a list of episode numbers"),
        ({"episodes": [True]}, "expected a list of episode numbers"),
        ({"episodes": [1], "reason": {}}, "unknown entry 'reason'; did you mean 'reasons'"),
        ({"episodes": [1], "reasons": {"2": ["idle"]}}, "'reasons' is not a mapping"),
        ({"episodes": [1], "dataset": 3}, "'dataset' is 3"),
    ):
        with pytest.raises(DataError, match=message):
            prepare(listed(tmp_path / "list.json", **content), dataset)
    with pytest.raises(DataError, match="names no dataset, and there are 2"):
        prepare(listed(tmp_path / "list.json", episodes=[1]), dataset, second)
    with pytest.raises(DataError, match=r"cannot read .*none\.json"):
        prepare(with_data(exclude=(str(tmp_path / "none.json"),)), dataset)


def test_each_transform_is_fitted_to_what_those_before_it_leave(tmp_path: Path) -> None:
    """Statistics of world poses would be those of where the hand was, not of where it goes from there."""
    hand = Vector(name="hand", components=COMPONENTS, units=UNITS, frame="world", rotation=LAYOUT)
    action = replace(ROBOT.action, components=COMPONENTS, units=UNITS, low=(-9.0,) * 9, high=(9.0,) * 9)
    spec = replace(ROBOT, observation=ObservationSpec(vectors=(hand,)), action=action)
    writer = DatasetWriter(tmp_path / "poses", spec)
    for number in range(4):
        positions = np.array([5.0 + number, 0.0, 0.0]) + np.linspace(0, 0.3, 31)[:, None] * np.array([0.0, 0.0, 1.0])
        poses = np.array([pose(place, np.eye(3)) for place in positions])
        frames = {"vector.hand": to_vector(poses[:-1]), "action": to_vector(poses[1:])}
        frames = {key: value.astype(np.float32) for key, value in frames.items()}
        writer.append(Episode(instruction="lift", frames=frames, success=True, origin={"episode": number}))
    policy = PolicyConfig(
        encoders={"hand": Proprioception(vector="hand", hidden=4)},
        trunk=Fusion(blocks=1),
        head=Regression(blocks=1),
        transforms=(RelativeAction(pose="hand"), Normalise(modes={"action": "mean_std"})),
        width=4,
        pred_horizon=1,
        exec_horizon=1,
    )
    prepared = prepare(replace(RECIPE, policy=policy), open_dataset(tmp_path / "poses"))
    fitted = prepared.policy.transforms[1]
    assert isinstance(fitted, Normalise) and fitted.statistics is not None
    np.testing.assert_allclose(fitted.statistics["action"]["mean"][:3], [0.0, 0.0, 0.01], atol=1e-6)
    np.testing.assert_allclose(fitted.statistics["action"]["std"], 0.0, atol=1e-6)
