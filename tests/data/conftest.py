"""A small robot, its episodes, and a recorded dataset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kinema.core.episode import Episode
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.data.lerobot.reader import Dataset, open_dataset
from kinema.data.lerobot.writer import DatasetWriter


@pytest.fixture(scope="session")
def spec() -> RobotSpec:
    observation = ObservationSpec(
        cameras=(Camera(name="front", height=33, width=31), Camera(name="wrist", height=24, width=32)),
        vectors=(
            Vector(name="proprioception", components=("x", "y"), units=("m", "m"), frame="world"),
            Vector(name="full_state", components=("a", "b", "c"), units=("m", "m", "m"), frame="world"),
            Vector(name="force", components=("f",), units=("N",), frame="gripper"),
        ),
        instruction=True,
    )
    action = ActionSpec(
        components=("dx", "dy"),
        units=("m", "m"),
        frame="world",
        kind="end-effector delta position",
        integrator="controller",
        low=(-1.0, -1.0),
        high=(1.0, 1.0),
    )
    return RobotSpec(embodiment="testarm", rate_hz=10.0, observation=observation, action=action)


@pytest.fixture(scope="session")
def make_episode() -> Callable[..., Episode]:
    def make(index: int, length: int = 6) -> Episode:
        rng = np.random.default_rng(index)
        base = rng.integers(40, 200, 3)

        def images(height: int, width: int) -> np.ndarray:
            frames = np.empty((length, height, width, 3), np.uint8)
            frames[:] = base
            for step in range(length):
                row, column = 3 + step % (height - 8), 4 + step % (width - 8)
                frames[step, row : row + 3, column : column + 3] = (230, 20, 30)
            return frames

        return Episode(
            instruction=f"do thing {index % 3}",
            success=index % 4 != 3,
            origin={"suite": "tests", "task": f"task-{index % 3}", "seed": 5, "episode": index},
            frames={
                "image.front": images(33, 31),
                "image.wrist": images(24, 32),
                "vector.proprioception": rng.normal(size=(length, 2)).astype(np.float32),
                "vector.full_state": rng.normal(size=(length, 3)).astype(np.float32),
                "vector.force": rng.normal(size=(length, 1)).astype(np.float32),
                "action": rng.normal(size=(length, 2)).astype(np.float32),
            },
        )

    return make


LENGTHS = (6, 1, 9, 4, 7, 5)


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory, spec: RobotSpec, make_episode: Callable[..., Episode]) -> Path:
    root = tmp_path_factory.mktemp("recorded") / "dataset"
    writer = DatasetWriter(root, spec, provenance={"command": "tests"})
    for index, length in enumerate(LENGTHS):
        assert writer.append(make_episode(index, length)) == index
    return root


@pytest.fixture(scope="session")
def dataset(recorded: Path) -> Dataset:
    return open_dataset(recorded)
