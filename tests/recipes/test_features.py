"""Training from kept features is training from images, bit for bit, and refused where it could not be."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from kinema.cli.main import main
from kinema.core.episode import Episode
from kinema.core.errors import KinemaError
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.core.transform import Sample, Transform
from kinema.data.lerobot.reader import Dataset, open_dataset
from kinema.data.lerobot.writer import DatasetWriter
from kinema.deploy.load import load_policy
from kinema.heads.regression import Regression
from kinema.nets.encoders.film_cnn import FilmCnn
from kinema.nets.encoders.frozen_vision import FrozenVision
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.trunks.fusion import Fusion
from kinema.nets.vision import VisionModel
from kinema.policies.base import ComposedPolicy, PolicyConfig
from kinema.recipes.base import DataConfig, Prepared, Recipe, prepare
from kinema.train.config import TrainConfig
from kinema.train.loop import fit
from kinema.train.optim import OptimConfig
from kinema.transforms.normalise import Normalise
from kinema.transforms.resize import Resize

ROBOT = RobotSpec(
    embodiment="arm",
    rate_hz=10.0,
    observation=ObservationSpec(
        cameras=(Camera(name="front", height=48, width=64), Camera(name="wrist", height=48, width=64)),
        vectors=(Vector(name="proprioception", components=("x",), units=("m",), frame="world"),),
    ),
    action=ActionSpec(
        components=("dx",), units=("m",), frame="world", kind="delta", integrator="c", low=(-9.0,), high=(9.0,)
    ),
)


def recorded(root: Path, seed: int) -> Dataset:
    writer, rng = DatasetWriter(root, ROBOT), np.random.default_rng(seed)
    for number in range(3):
        frames: dict[str, np.ndarray] = {
            camera.key: np.repeat(np.repeat(rng.integers(0, 256, (5, 12, 16, 3), np.uint8), 4, 1), 4, 2)
            for camera in ROBOT.observation.cameras
        }
        frames |= {
            "vector.proprioception": rng.normal(size=(5, 1)).astype(np.float32),
            "action": rng.normal(size=(5, 1)).astype(np.float32),
        }
        writer.append(Episode(instruction="go", frames=frames, success=True, origin={"task": "a", "episode": number}))
    return open_dataset(root)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return recorded(tmp_path_factory.mktemp("features") / "data", 0)


@pytest.fixture(scope="module")
def recipe(tiny_vision: Callable[..., Path]) -> Recipe:
    """Two frozen cameras, one of which is also looked at by a trained encoder."""
    model = str(tiny_vision(32, 40))
    policy = PolicyConfig(
        encoders={
            "front": FrozenVision(camera="front", model=model, grid=2),
            "wrist": FrozenVision(camera="wrist", model=model, grid=1),
            "own": FilmCnn(camera="wrist", condition=None, channels=(4,), strides=(2,), keypoints=2),
            "proprioception": Proprioception(hidden=4),
        },
        trunk=Fusion(blocks=1),
        head=Regression(blocks=1),
        transforms=(Normalise(modes={"action": "mean_std"}),),
        width=8,
        obs_horizon=2,
        pred_horizon=3,
        exec_horizon=1,
    )
    train = TrainConfig(steps=3, batch_size=4, optim=OptimConfig(warmup_steps=1), precision="fp32", checkpoint_every=3)
    return Recipe(policy=policy, train=train, data=DataConfig(held_out_fraction=0.3, resize=(32, 40)))


def with_data(recipe: Recipe, **options: Any) -> Recipe:
    return replace(recipe, data=replace(recipe.data, **options))


def loss_of(prepared: Prepared, batch: dict[str, Any]) -> torch.Tensor:
    tensors = {key: torch.from_numpy(value) for key, value in batch.items() if isinstance(value, np.ndarray)}
    return prepared.network.loss(tensors, torch.Generator().manual_seed(1))


def losses(prepared: Prepared, recipe: Recipe, run: Path) -> tuple[float, dict[str, torch.Tensor]]:
    result = fit(prepared.network, prepared.batches, recipe.train, run, held_out=prepared.held_out)
    return result.loss, dict(prepared.network.state_dict())


def test_training_is_the_same_bit_for_bit(recipe: Recipe, dataset: Dataset, tmp_path: Path) -> None:
    kept = with_data(recipe, cache_features=True)
    live, cached = prepare(recipe, dataset), prepare(kept, dataset)
    batch, shown = next(live.batches(0)), next(cached.batches(0))
    features = {key for key in shown if key.startswith("features.")}
    assert len(features) == 2 and "image.front" not in shown, "the image that only a frozen encoder reads is not read"
    assert np.array_equal(batch["image.wrist"], shown["image.wrist"])
    (loss, weights), (again, same) = (
        losses(live, recipe, tmp_path / "live"),
        losses(cached, recipe, tmp_path / "kept"),
    )
    assert loss == again and weights.keys() == same.keys()
    assert all(torch.equal(value, same[name]) for name, value in weights.items())
    assert live.held_out is not None and cached.held_out is not None
    assert torch.equal(loss_of(live, next(live.held_out())), loss_of(cached, next(cached.held_out())))


def test_the_policy_acts_on_images(recipe: Recipe, dataset: Dataset) -> None:
    prepared = prepare(with_data(recipe, cache_features=True), dataset)
    policy = ComposedPolicy(prepared.policy, prepared.spec, prepared.network)
    sample = {camera: dataset.images(camera)[None, :2] for camera in ("front", "wrist")}
    seen = {f"image.{camera}": np.array(images) for camera, images in sample.items()}
    chunk = policy.act({**seen, "vector.proprioception": np.zeros((1, 2, 1), np.float32)})
    assert chunk.action.shape == (1, 3, 1)


def test_features_are_made_once(recipe: Recipe, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int, int]] = []
    kept = with_data(recipe, cache_features=True)
    prepare(kept, dataset, tell=lambda *said: told.append(said))
    assert {what for what, _, _ in told} <= {"data front", "data wrist"}
    encode = VisionModel.encode

    def refused(*arguments: Any) -> Any:
        raise AssertionError("the features are there")

    monkeypatch.setattr(VisionModel, "encode", refused)
    next(prepare(kept, dataset).batches(0))
    monkeypatch.setattr(VisionModel, "encode", encode)
    other = replace(
        kept.policy, encoders={**kept.policy.encoders, "wrist": replace(kept.policy.encoders["wrist"], grid=3)}
    )
    before = set((dataset.cache / "features").iterdir())
    prepare(replace(kept, policy=other), dataset)
    assert len(set((dataset.cache / "features").iterdir()) - before) == 1, "another raster, other features"


def test_several_datasets(recipe: Recipe, dataset: Dataset, tmp_path: Path) -> None:
    second = recorded(tmp_path / "second", 1)
    kept = with_data(recipe, cache_features=True)
    live, cached = prepare(recipe, dataset, second), prepare(kept, dataset, second)
    assert torch.equal(loss_of(live, next(live.batches(2))), loss_of(cached, next(cached.batches(2))))


@dataclass(frozen=True, kw_only=True)
class Darken(Transform):
    """Changes what is seen, whenever."""

    def forward(self, sample: Sample) -> tuple[Sample, Any]:
        return {key: value // 2 if key.startswith("image.") else value for key, value in sample.items()}, None

    def inverse(self, action: np.ndarray, memo: Any) -> np.ndarray:
        return action


def test_what_changes_images_is_refused(recipe: Recipe, dataset: Dataset) -> None:
    with pytest.raises(KinemaError, match="features cannot be cached while RandomShift changes the images"):
        prepare(with_data(recipe, cache_features=True, random_shift=1), dataset)
    dark = replace(recipe.policy, transforms=(*recipe.policy.transforms, Darken()))
    with pytest.raises(KinemaError, match=r"cache_features: the policy's transforms change 'image\.(front|wrist)'"):
        prepare(replace(with_data(recipe, cache_features=True), policy=dark), dataset)
    trained = {name: e for name, e in recipe.policy.encoders.items() if not isinstance(e, FrozenVision)}
    with pytest.raises(KinemaError, match="no encoder of the policy is frozen"):
        prepare(
            replace(with_data(recipe, cache_features=True), policy=replace(recipe.policy, encoders=trained)), dataset
        )


def test_from_the_command_line_to_a_policy_that_acts(
    recipe: Recipe, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`kinema train` with both options; what is stored acts on the robot's own images, without any cache."""
    module = ModuleType("planted_recipes")
    plain = replace(recipe, data=DataConfig(held_out_fraction=0.3))
    vars(module)["small"] = lambda: plain
    monkeypatch.setitem(sys.modules, "planted_recipes", module)
    run = tmp_path / "run"
    arguments = ["train", "planted_recipes:small", "--data", str(dataset.root), "--out", str(run)]
    assert main([*arguments, "--data.resize", "32", "40", "--data.cache-features"]) == 0
    policy = load_policy(run)
    assert isinstance(policy.config.transforms[0], Resize)
    assert policy.spec.observation.shape("image.front") == (48, 64, 3), "the robot delivers what the data holds"
    frames = {f"image.{camera}": np.array(dataset.images(camera)[None, :2]) for camera in ("front", "wrist")}
    chunk = policy.act({**frames, "vector.proprioception": np.zeros((1, 2, 1), np.float32)})
    assert chunk.action.shape == (1, 3, 1)
    assert json.loads((run / "data.json").read_text())["resize"] == [32, 40]
