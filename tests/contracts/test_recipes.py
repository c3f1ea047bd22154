"""Every recipe is complete: it survives JSON and its first training step runs on a small recorded dataset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinema.core.config import from_data, to_data
from kinema.core.episode import Episode
from kinema.core.names import find, members
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.data.lerobot.reader import open_dataset
from kinema.data.lerobot.writer import DatasetWriter
from kinema.recipes.base import Recipe, prepare

NAMES = members("recipe")


def robot_for(reads: tuple[str, ...]) -> RobotSpec:
    """Return a robot that offers exactly what a policy reads, and a force besides."""
    kinds = [key.partition(".") for key in reads]
    cameras = tuple(Camera(name=name, height=32, width=32) for kind, _, name in kinds if kind == "image")
    vectors = tuple(
        Vector(name=name, components=("x", "y"), units=("m", "m"), frame="world")
        for kind, _, name in [*kinds, ("vector", ".", "force")]
        if kind == "vector"
    )
    action = ActionSpec(
        components=("dx", "dy"),
        units=("cm", "cm"),
        frame="world",
        kind="end-effector delta position",
        integrator="controller",
        low=(-1.0, -1.0),
        high=(1.0, 1.0),
    )
    observation = ObservationSpec(cameras=cameras, vectors=vectors, instruction=True)
    return RobotSpec(embodiment="testarm", rate_hz=10.0, observation=observation, action=action)


def record(root: Path, spec: RobotSpec, episodes: int, length: int) -> None:
    writer, rng = DatasetWriter(root, spec, provenance={"command": "tests"}), np.random.default_rng(0)
    for index in range(episodes):
        frames = {}
        for camera in spec.observation.cameras:
            shade = rng.integers(0, 255, (1, 1, 1, 3), np.uint8)
            frames[camera.key] = np.broadcast_to(shade, (length, camera.height, camera.width, 3)).copy()
        for key in (*(vector.key for vector in spec.observation.vectors), "action"):
            frames[key] = rng.uniform(-1, 1, (length, 2)).astype(np.float32)
        writer.append(Episode(instruction="do it", frames=frames, success=True, origin={"task": "a", "episode": index}))


@pytest.mark.parametrize("name", NAMES)
def test_json_round_trip(name: str) -> None:
    recipe = find("recipe", name)()
    assert isinstance(recipe, Recipe)
    assert from_data(to_data(recipe)) == recipe
    assert find("recipe", name)() == recipe, "a recipe is a function of nothing"


@pytest.mark.parametrize("name", NAMES)
def test_first_step_on_a_recorded_dataset(name: str, tmp_path: Path, built: Callable[..., Any]) -> None:
    recipe = find("recipe", name)()
    spec = robot_for(recipe.policy.reads)
    record(tmp_path / "data", spec, episodes=6, length=5)
    dataset = open_dataset(tmp_path / "data")
    prepared = built(lambda: prepare(recipe, dataset))
    assert prepared.spec.observation.keys == tuple(k for k in spec.observation.keys if k in recipe.policy.reads)
    assert len(prepared.train_episodes) == 5 and len(prepared.held_out_episodes) == 1
    batch = next(prepared.batches(0))
    assert len(batch["action"]) == recipe.train.batch_size
    few = {key: value[:4] for key, value in batch.items()}
    tensors = {key: torch.from_numpy(value) if isinstance(value, np.ndarray) else value for key, value in few.items()}
    loss = prepared.network.loss(tensors, torch.Generator().manual_seed(0))
    assert loss.shape == (4, recipe.policy.pred_horizon) and torch.isfinite(loss).all()
    assert (loss[~tensors["mask"]] == 0).all() and not tensors["mask"].all()
    assert sum(len(part["action"]) for part in prepared.held_out()) == 5
    assert to_data(from_data(to_data(prepared.policy))) == to_data(prepared.policy)
