"""The datasets of the loader benchmark: a textured scene that moves, recorded as LeRobot does by default."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from kinema.core.episode import Episode
from kinema.core.rng import generator
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.data.lerobot.compact import compact
from kinema.data.lerobot.writer import DatasetWriter
from kinema.data.video import VideoCodec

LEROBOT_CODEC = VideoCodec(encoder="libsvtav1", pixel_format="yuv420p", crf=30, gop=2, preset="12")
JOINTS = tuple(f"joint{number}" for number in range(7))


@dataclass(frozen=True, kw_only=True)
class Data:
    """What a dataset is like."""

    name: str
    height: int
    width: int
    cameras: tuple[str, ...]
    episodes: int
    steps: int
    codec: VideoCodec
    fps: int = 30

    @property
    def frames(self) -> int:
        """Rows in all."""
        return self.episodes * self.steps

    @property
    def spec(self) -> RobotSpec:
        """Seven joints, and the cameras."""
        observation = ObservationSpec(
            cameras=tuple(Camera(name=name, height=self.height, width=self.width) for name in self.cameras),
            vectors=(Vector(name="proprioception", components=JOINTS, units=("rad",) * 7, frame="joints"),),
            instruction=True,
        )
        action = ActionSpec(
            components=JOINTS,
            units=("rad",) * 7,
            frame="joints",
            kind="joint position",
            integrator="controller",
            low=(-3.0,) * 7,
            high=(3.0,) * 7,
        )
        return RobotSpec(embodiment="scene", rate_hz=float(self.fps), observation=observation, action=action)


def datasets(*, quick: bool) -> list[Data]:
    """Return the datasets to measure on, the most important ones first."""
    small = {"height": 96, "width": 96, "cameras": ("front",), "episodes": 4 if quick else 20, "steps": 80}
    large = {"height": 480, "width": 640, "cameras": ("front", "wrist"), "episodes": 2 if quick else 12, "steps": 80}
    return [
        Data(name="96x96, 1 camera, AV1", codec=LEROBOT_CODEC, **small),
        Data(name="480x640, 2 cameras, AV1", codec=LEROBOT_CODEC, **large),
        Data(name="96x96, 1 camera, kinema's codec", codec=VideoCodec(), **small),
    ]


def made(data: Data, work: Path) -> Path:
    """Return where the dataset is, recorded now if it was not."""
    root = work / f"{data.name} {data.frames}".replace(" ", "-").replace(",", "").replace("'", "")
    if (root / "complete").is_file():
        return root
    shutil.rmtree(root, ignore_errors=True)
    writer = DatasetWriter(root, data.spec, codec=data.codec, provenance={"command": "benchmarks/loader.py"})
    for number in range(data.episodes):
        writer.append(_episode(data, number))
    if data.codec == LEROBOT_CODEC:
        compact(root)
    (root / "complete").touch()
    return root


def _episode(data: Data, number: int) -> Episode:
    rng = generator("scene", data.name, number)
    frames = {f"image.{camera}": _scene(data, rng) for camera in data.cameras}
    joints = np.cumsum(rng.normal(0, 0.02, (data.steps, 7)), axis=0).astype(np.float32)
    frames |= {"vector.proprioception": joints, "action": joints + np.float32(0.01)}
    origin = {"suite": "benchmark", "task": "scene", "seed": 0, "episode": number}
    return Episode(instruction="look around", success=True, origin=origin, frames=frames)


def _scene(data: Data, rng: np.random.Generator) -> np.ndarray:
    """Return (T, Hi, Wi, 3) uint8: a camera that pans over a texture, and a ball that moves in front of it."""
    height, width = data.height, data.width
    texture = gaussian_filter(rng.normal(0, 1, (2 * height, 2 * width, 3)), (height / 48, height / 48, 0))
    texture = np.clip(128 + 40 * texture / texture.std(), 0, 255).astype(np.uint8)
    rows, columns = np.mgrid[:height, :width]
    video = np.empty((data.steps, height, width, 3), np.uint8)
    for step in range(data.steps):
        down, right = (height * (2 + step)) // 240 % height, (width * (5 + 2 * step)) // 240 % width
        video[step] = texture[down : down + height, right : right + width]
        centre = height / 2 + height / 4 * np.sin(step / 7), width / 2 + width / 4 * np.cos(step / 9)
        ball = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < (height / 12) ** 2
        video[step][ball] = (220, 40, 30)
    return video
