"""A policy is shown the same pixels when it acts as when it was trained, whoever resized them and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinema.cli.overrides import override
from kinema.core.config import from_data, to_data
from kinema.core.episode import Episode
from kinema.core.errors import KinemaError
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.data.lerobot.reader import Dataset, open_dataset
from kinema.data.lerobot.writer import DatasetWriter
from kinema.deploy.load import StoredPolicy
from kinema.heads.regression import Regression
from kinema.nets.encoders.film_cnn import FilmCnn
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.trunks.fusion import Fusion
from kinema.policies.base import ComposedPolicy, PolicyConfig
from kinema.policies.network import Network
from kinema.recipes.base import DataConfig, Prepared, Recipe, prepare
from kinema.train.config import TrainConfig
from kinema.transforms.normalise import Normalise
from kinema.transforms.resize import Resize

SIZE = (48, 64)
ROBOT = RobotSpec(
    embodiment="arm",
    rate_hz=10.0,
    observation=ObservationSpec(
        cameras=(Camera(name="front", height=SIZE[0], width=SIZE[1]),),
        vectors=(Vector(name="proprioception", components=("row",), units=("1",), frame="world"),),
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
POLICY = PolicyConfig(
    encoders={
        "front": FilmCnn(camera="front", condition=None, channels=(4,), strides=(2,), keypoints=2),
        "proprioception": Proprioception(hidden=4),
    },
    trunk=Fusion(blocks=1),
    head=Regression(blocks=1),
    transforms=(Normalise(modes={"action": "mean_std"}),),
    width=4,
    pred_horizon=2,
    exec_horizon=1,
)
RECIPE = Recipe(
    policy=POLICY, train=TrainConfig(steps=1000, batch_size=6), data=DataConfig(held_out_fraction=0.3, resize=(24, 32))
)
AT_FIRST = replace(
    RECIPE,
    policy=replace(POLICY, transforms=(Resize(height=24, width=32), *POLICY.transforms)),
    data=DataConfig(held_out_fraction=0.3),
)
AT_LAST = replace(AT_FIRST, policy=replace(POLICY, transforms=(*POLICY.transforms, Resize(height=24, width=32))))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Rows of noise, each of which knows its number."""
    root = tmp_path_factory.mktemp("resize") / "data"
    writer, rng = DatasetWriter(root, ROBOT), np.random.default_rng(0)
    for start in (0, 7, 14):
        frames = {
            "image.front": np.repeat(np.repeat(rng.integers(0, 256, (7, 12, 16, 3), np.uint8), 4, 1), 4, 2),
            "vector.proprioception": np.arange(start, start + 7, dtype=np.float32)[:, None],
            "action": rng.normal(size=(7, 1)).astype(np.float32),
        }
        writer.append(Episode(instruction="go", frames=frames, success=True, origin={"task": "a", "episode": start}))
    return open_dataset(root)


class Seen(Network):
    """A network that remembers the images that it is shown, by row."""

    def context(self, sample: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        for row, image in zip(sample["vector.proprioception"].flatten().tolist(), sample["image.front"], strict=True):
            self.images[round(row)] = image.numpy().copy()
        return super().context(sample, *args, **kwargs)


def seen(prepared: Prepared) -> Seen:
    torch.manual_seed(0)
    network = Seen(prepared.policy, prepared.spec)
    network.images = {}
    return network


def trained(prepared: Prepared) -> dict[int, np.ndarray]:
    network, batches = seen(prepared), prepared.batches(0)
    for _ in range(6):
        batch = {key: torch.from_numpy(np.asarray(value)) for key, value in next(batches).items()}
        network.loss(batch, torch.Generator().manual_seed(0))
    return network.images


def acted(prepared: Prepared, dataset: Dataset) -> dict[int, np.ndarray]:
    """Return what the network is shown of the decoded frames as a robot delivers them."""
    stored = from_data(to_data(StoredPolicy(spec=prepared.spec, policy=prepared.policy)))
    network = seen(prepared)
    policy = ComposedPolicy(stored.policy, stored.spec, network)
    for row, image in enumerate(dataset.images("front")):
        policy.act({"image.front": image[None, None], "vector.proprioception": np.full((1, 1, 1), row, np.float32)})
    return network.images


@pytest.mark.parametrize("recipe", [RECIPE, AT_FIRST, AT_LAST], ids=["option", "first", "last"])
def test_acting_sees_the_pixels_of_training(dataset: Dataset, recipe: Recipe) -> None:
    prepared = prepare(recipe, dataset)
    learned, live = trained(prepared), acted(prepared, dataset)
    assert len(live) == 21 and len(learned) > 10
    assert all(image.shape == (1, 24, 32, 3) for image in live.values())
    for row, image in learned.items():
        assert np.array_equal(image, live[row]), row
    assert prepared.spec.observation.cameras[0].height == SIZE[0], "the robot delivers what the data holds"


def test_the_three_ways_differ_in_the_cache_alone(dataset: Dataset) -> None:
    option, first, last = (prepare(recipe, dataset) for recipe in (RECIPE, AT_FIRST, AT_LAST))
    assert to_data(option.policy) == to_data(first.policy)
    batches = [next(prepared.batches(3)) for prepared in (option, first, last)]
    for key, value in batches[0].items():
        assert np.array_equal(value, batches[1][key]) and np.array_equal(value, batches[2][key]), key
    held_out = [next(prepared.held_out())["image.front"] for prepared in (option, last)]
    assert np.array_equal(*held_out)
    names = {path.name for path in (dataset.root / ".cache").rglob("*.u8")}
    assert names == {"image.front@24x32-bilinear.u8", "image.front.u8"}


def test_statistics_do_not_notice(dataset: Dataset) -> None:
    plain = prepare(replace(RECIPE, data=replace(RECIPE.data, resize=None)), dataset).policy.transforms[0]
    resized = prepare(RECIPE, dataset).policy.transforms[1]
    assert to_data(plain) == to_data(resized)


def test_shifting_moves_the_resized_image(dataset: Dataset) -> None:
    """A shift of one pixel is one of those that the network sees, not one of the camera's."""
    prepared = prepare(replace(RECIPE, data=replace(RECIPE.data, random_shift=1)), dataset)
    whole = prepare(RECIPE, dataset)
    shifted, still = next(prepared.batches(0))["image.front"], next(whole.batches(0))["image.front"]
    padded = np.pad(still, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    for place, image in enumerate(shifted):
        moves = [padded[place, :, y : y + 24, x : x + 32] for y in range(3) for x in range(3)]
        assert any(np.array_equal(image, move) for move in moves)


def test_from_the_command_line() -> None:
    recipe = override(replace(RECIPE, data=DataConfig()), ["--data.resize", "96", "128"], "kinema train x")
    assert recipe.data.resize == (96, 128) and not recipe.data.cache_features
    assert override(RECIPE, ["--data.cache-features"], "kinema train x").data.cache_features
    inside = override(AT_FIRST, ["--policy.transforms.0.height", "12"], "kinema train x")
    assert inside.policy.transforms[0] == Resize(height=12, width=32)


def test_two_sizes_are_a_mistake(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(KinemaError, match=r"resize \(24, 32\): the policy resizes images already"):
        prepare(replace(AT_FIRST, data=RECIPE.data), dataset)
