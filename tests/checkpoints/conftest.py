"""Checkpoints that LeRobot saved, the robots that they are of, and what those see."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "goldens"))
from filled import pixels, uniform
from lerobot_directories import directory

CAMERAS = {"act": ("top", "wrist"), "diffusion": ("top",), "vqbet": ("top",)}
BATCH, HIGH, WIDE = 2, 48, 64


@pytest.fixture
def lerobots_directory(tmp_path: Path) -> Callable[..., Path]:
    """`lerobots_directory(kind)` returns a directory as LeRobot 0.4.4 saved it."""

    def build(kind: str, **options: Any) -> Path:
        return directory(kind, tmp_path / f"lerobots_{kind}", **options)

    return build


@pytest.fixture
def lerobots_robot() -> Callable[..., RobotSpec]:
    """`lerobots_robot(kind)` returns the robot of a directory; `state` is what its vector is called."""

    def build(kind: str, state: str = "proprioception") -> RobotSpec:
        vector = Vector(name=state, components=("x", "y", "z"), units=("m",) * 3, frame="base")
        action = ActionSpec(
            components=("x", "y"),
            units=("m", "m"),
            frame="base",
            kind="end-effector absolute position",
            integrator="controller",
            low=(-9.0, -9.0),
            high=(9.0, 9.0),
        )
        cameras = tuple(Camera(name=name, height=HIGH, width=WIDE) for name in CAMERAS[kind])
        observation = ObservationSpec(cameras=cameras, vectors=(vector,))
        return RobotSpec(embodiment="testarm", rate_hz=10.0, observation=observation, action=action)

    return build


@pytest.fixture
def lerobots_observation() -> Callable[..., dict[str, np.ndarray]]:
    """`lerobots_observation(kind, steps)` returns what the goldens were made from."""

    def build(kind: str, steps: int, state: str = "proprioception") -> dict[str, np.ndarray]:
        made = {f"vector.{state}": np.stack([uniform(f"state{t}", (BATCH, 3)) for t in range(steps)], axis=1)}
        for camera in CAMERAS[kind]:
            images = [pixels(f"{camera}{t}", (BATCH, HIGH, WIDE, 3)) for t in range(steps)]
            made[f"image.{camera}"] = np.stack(images, axis=1)
        return made

    return build


@pytest.fixture
def lerobots_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """What LeRobot drew for the goldens of Diffusion Policy is drawn here."""
    monkeypatch.setattr("kinema.heads.diffusion.normal", lambda shape, *_: torch.from_numpy(uniform("noise", shape)))
