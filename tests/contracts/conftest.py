"""What all contract tests share: a robot to build for, default configurations, and members planted for one test."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinema.core.errors import UnavailableError
from kinema.core.names import PACKAGES, find
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.heads.per_embodiment import Part
from kinema.heads.regression import Regression

_REQUIRED: dict[str, Any] = {
    "quantiser_steps": 2,
    "parts": {name: Part(head=Regression(), action_width=2, pred_horizon=5) for name in ("testarm", "otherarm")},
    "camera": "front",
    "cameras": ("wrist",),
    "vector": "proprioception",
    "vectors": ("proprioception",),
    "pixels": 2,
    "height": 24,
    "width": 20,
    "pose": "hand",
    "state": "joints",
    "template": "openvla",
    "modes": {"vector.proprioception": "mean_std", "action": "min_max"},
    "widths": {"vector.proprioception": 5, "action": 12},
}
"""Values of fields that have no default, by name: a new member with another required field adds it here."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def robot() -> RobotSpec:
    """A robot with two cameras, a vector, an instruction and bounds that differ by component."""
    observation = ObservationSpec(
        cameras=(Camera(name="front", height=32, width=40), Camera(name="wrist", height=32, width=32)),
        vectors=(Vector(name="proprioception", components=("x", "y", "z"), units=("m",) * 3, frame="world"),),
        instruction=True,
    )
    action = ActionSpec(
        components=("dx", "dy"),
        units=("cm", "cm"),
        frame="world",
        kind="end-effector delta position",
        integrator="controller",
        low=(-1.0, -0.5),
        high=(1.0, 0.25),
    )
    return RobotSpec(embodiment="testarm", rate_hz=10.0, observation=observation, action=action)


@pytest.fixture(scope="session")
def configure(tiny_vision: Callable[..., Path], tiny_t5: Callable[..., Path]) -> Callable[[str, str], Any]:
    """`configure(kind, name)` returns the member's configuration from its defaults."""

    def build(kind: str, name: str) -> Any:
        member = find(kind, name)
        given = {}
        for f in fields(member):
            if f.name == "model" and f.default is MISSING:
                given[f.name] = str(tiny_t5() if name == "t5" else tiny_vision(32, 40))
            elif f.default is MISSING and f.default_factory is MISSING:
                assert f.name in _REQUIRED, f"{name}: no test value for the required field {f.name!r}"
                given[f.name] = _REQUIRED[f.name]
        return member(**given)

    return build


@pytest.fixture(scope="session")
def observe(robot: RobotSpec) -> Callable[..., dict[str, Any]]:
    """`observe(batch, obs_horizon)` returns an observation of the robot."""

    def build(batch: int, obs_horizon: int = 1, *, seed: int = 0) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        sample: dict[str, Any] = {
            camera.key: rng.integers(0, 256, (batch, obs_horizon, camera.height, camera.width, 3), np.uint8)
            for camera in robot.observation.cameras
        }
        for vector in robot.observation.vectors:
            sample[vector.key] = rng.normal(size=(batch, obs_horizon, len(vector.units))).astype(np.float32)
        sample["instruction"] = [("open the drawer", "close the window", "push the puck")[i % 3] for i in range(batch)]
        return sample

    return build


@pytest.fixture(scope="session")
def built() -> Callable[..., Any]:
    """`built(make)` returns `make()` under a fixed seed; a machine without the member's packages skips the test."""

    def build(make: Callable[[], Any]) -> Any:
        torch.manual_seed(0)
        try:
            return make()
        except UnavailableError as error:
            pytest.skip(str(error))

    return build


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Callable[[str, str, str], None]]:
    """`plant(kind, name, source)` adds a member to `kind` from a directory of its own, until the test ends."""
    planted: list[tuple[Any, str]] = []

    def add(kind: str, name: str, source: str) -> None:
        folder = tmp_path / kind
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(source, "utf-8")
        package = importlib.import_module(PACKAGES[kind])
        package.__path__.append(str(folder))
        planted.append((package, name))
        importlib.invalidate_caches()

    yield add
    for package, name in planted:
        package.__path__.pop()
        sys.modules.pop(f"{package.__name__}.{name}", None)
        vars(package).pop(name, None)
