"""LeRobot's policies as goldens: their weights by formula, under kinema's names."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kinema.checkpoints.lerobot.keys import constants, from_lerobot
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.policies.base import PolicyConfig
from kinema.policies.network import Network

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "goldens"))
from filled import pixels, uniform, weights

GOLDENS = Path(__file__).resolve().parents[1] / "goldens"
BATCH, STATE, ACTIONS = 2, 3, 2


@pytest.fixture(scope="session")
def lerobots() -> Callable[[str], dict[str, Any]]:
    """`lerobots(policy)` returns the golden of a policy."""

    def load(policy: str) -> dict[str, Any]:
        with np.load(GOLDENS / "policies" / f"{policy}.npz") as arrays:
            return {
                name: value if value.dtype.kind == "U" else torch.from_numpy(np.array(value))
                for name, value in arrays.items()
            }

    return load


@pytest.fixture(scope="session")
def lerobots_state() -> Callable[..., dict[str, Tensor]]:
    """`lerobots_state(golden, prefix="")` returns all that LeRobot's policy stores, but for its constants."""

    def build(policy: str, golden: Mapping[str, Any], prefix: str = "") -> dict[str, Tensor]:
        made = {}
        for name, text in zip(golden[f"{prefix}names"], golden[f"{prefix}shapes"], strict=True):
            shape = [int(size) for size in text.split(",") if size]
            flag = name.endswith(("discretized", "freeze_codebook", "initted"))
            if not name.endswith(constants(policy)):
                value = torch.ones(shape, dtype=torch.bool) if flag else torch.from_numpy(weights(name, shape))
                made[str(name)] = value
        return made

    return build


@pytest.fixture(scope="session")
def lerobots_network(lerobots_state: Callable[..., dict[str, Tensor]]) -> Callable[..., Network]:
    """`lerobots_network(policy, config, golden)` returns the network with LeRobot's weights, all of them."""

    def build(policy: str, config: PolicyConfig, golden: Mapping[str, Any], prefix: str = "") -> Network:
        network = Network(config, image_robot(len(config.reads) - 1, 64))
        network.load_state_dict(from_lerobot(policy, lerobots_state(policy, golden, prefix)), strict=True)
        return network

    return build


@pytest.fixture(scope="session")
def lerobots_sample() -> Callable[..., dict[str, Tensor]]:
    """`lerobots_sample(cameras, steps, chunk)` returns what the goldens were made from."""

    def build(cameras: int, steps: int, chunk: int) -> dict[str, Tensor]:
        made = {
            "vector.state": torch.from_numpy(uniform("state", (BATCH, steps, STATE))),
            "action": torch.from_numpy(uniform("action", (BATCH, chunk, ACTIONS))),
            "mask": torch.ones(BATCH, chunk, dtype=torch.bool),
        }
        for camera in range(cameras):
            made[f"image.camera{camera}"] = torch.from_numpy(pixels(f"camera{camera}", (BATCH, steps, 64, 64, 3)))
        return made

    return build


@pytest.fixture(scope="session")
def by_formula() -> Callable[..., Tensor]:
    """`by_formula(name, *shape)` returns the goldens' numbers of that name."""
    return lambda name, *shape: torch.from_numpy(uniform(name, shape))


@pytest.fixture(scope="session")
def image_spec() -> Callable[[int, int], RobotSpec]:
    """`image_spec(cameras, size)` returns a robot with square cameras, three joints and two actions."""
    return image_robot


def image_robot(cameras: int, size: int) -> RobotSpec:
    vector = Vector(name="state", components=("x", "y", "z"), units=("m",) * 3, frame="world")
    seen = tuple(Camera(name=f"camera{number}", height=size, width=size) for number in range(cameras))
    action = ActionSpec(
        components=("dx", "dy"),
        units=("m", "m"),
        frame="world",
        kind="end-effector delta position",
        integrator="controller",
        low=(-1.0, -1.0),
        high=(1.0, 1.0),
    )
    observation = ObservationSpec(cameras=seen, vectors=(vector,))
    return RobotSpec(embodiment="testarm", rate_hz=10.0, observation=observation, action=action)
