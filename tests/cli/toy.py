"""A suite and a recipe from outside the package that cost next to nothing: a point on a line moves to its goal."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kinema.core.episode import Start
from kinema.core.errors import SpecMismatch, nearest
from kinema.core.rng import generator
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.sim.suites.base import Expert, SimEnvironment, Suite, Task

SIZE = 16
CAMERA = Camera(name="front", height=SIZE, width=SIZE)
POSITION = Vector(name="proprioception", components=("x",), units=("m",), frame="world")
ACTION = ActionSpec(
    components=("dx",), units=("m",), frame="world", kind="delta", integrator="controller", low=(-1.0,), high=(1.0,)
)


@dataclass(frozen=True, kw_only=True)
class Toy(Suite):
    """Two tasks; every step takes `pause_s`, and building an environment `start_s`; some episodes break."""

    pause_s: float = 0.0
    start_s: float = 0.0
    embodiment: str = "toy"
    max_steps: int = 30
    raises: tuple[int, ...] = ()
    dies: tuple[int, ...] = ()
    hangs: tuple[int, ...] = ()

    @property
    def spec(self) -> RobotSpec:
        observation = ObservationSpec(cameras=(CAMERA,), vectors=(POSITION,), instruction=True)
        return RobotSpec(embodiment=self.embodiment, rate_hz=10.0, observation=observation, action=ACTION)

    @property
    def tasks(self) -> Mapping[str, Task]:
        return {
            name: Task(
                name=name,
                instruction=f"go {name}",
                paraphrases=(f"move {name}",),
                held_out=(f"please go {name}",),
                group="all",
            )
            for name in ("left", "right")
        }

    @property
    def selections(self) -> Mapping[str, tuple[str, ...]]:
        return {"both": ("left", "right")}

    def make(self) -> ToyEnvironment:
        time.sleep(self.start_s)
        return ToyEnvironment(self)

    def offering(self, observation: ObservationSpec) -> Toy:
        for camera in observation.cameras:
            if camera != CAMERA:
                raise SpecMismatch(f"no camera {camera.name!r}{nearest(camera.name, [CAMERA.name])}")
        return self

    def expert(self, task: str) -> Expert:
        return lambda state: np.clip(4 * (state[1:] - state[:1]), -1, 1).astype(np.float32)


class ToyEnvironment(SimEnvironment):
    def __init__(self, suite: Toy) -> None:
        self._suite = suite
        self._position = self._goal = 0.0
        self._episode = 0

    def begin(self, start: Start) -> None:
        rng = generator("toy", start.seed, start.task, start.episode)
        self._position = float(rng.uniform(-0.3, 0.3))
        self._goal = -1.0 if start.task == "left" else 1.0
        self._episode = start.episode

    def step(self, action: np.ndarray) -> bool:
        time.sleep(self._suite.pause_s)
        if self._episode in self._suite.raises:
            raise RuntimeError("the simulator diverged")
        if self._episode in self._suite.dies:
            os._exit(11)
        if self._episode in self._suite.hangs:
            time.sleep(3600)
        self._position += 0.2 * float(np.clip(action, -1, 1)[0])
        return abs(self._position - self._goal) < 0.1

    def observe(self) -> dict[str, np.ndarray]:
        return {CAMERA.key: self.picture(SIZE), POSITION.key: np.array([self._position], np.float32)}

    def picture(self, size: int) -> np.ndarray:
        image = np.full((size, size, 3), 40, np.uint8)
        column = int(np.clip((self._position + 1.5) / 3 * size, 0, size - 1))
        image[:, column] = (230, 60, 60)
        return image

    def expert_state(self) -> np.ndarray:
        return np.array([self._position, self._goal])

    def close(self) -> None:
        pass


def tiny() -> object:
    """Return a recipe of a few hundred weights."""
    from kinema.heads.regression import Regression
    from kinema.nets.encoders.film_cnn import FilmCnn
    from kinema.nets.encoders.proprioception import Proprioception
    from kinema.nets.encoders.words import Words
    from kinema.nets.trunks.fusion import Fusion
    from kinema.policies.base import PolicyConfig
    from kinema.recipes.base import DataConfig, Recipe
    from kinema.train.config import TrainConfig
    from kinema.train.optim import OptimConfig
    from kinema.transforms.normalise import Normalise

    return Recipe(
        policy=PolicyConfig(
            encoders={
                "front": FilmCnn(camera="front", condition=None, channels=(4,), strides=(2,), keypoints=2),
                "position": Proprioception(hidden=4),
                "instruction": Words(buckets=64),
            },
            trunk=Fusion(blocks=1),
            head=Regression(blocks=1),
            transforms=(Normalise(modes={"action": "mean_std", "vector.proprioception": "mean_std"}),),
            width=8,
            pred_horizon=4,
            exec_horizon=2,
        ),
        train=TrainConfig(
            steps=4,
            batch_size=2,
            optim=OptimConfig(warmup_steps=1),
            checkpoint_every=2,
            evaluate_every=0,
            log_every=1,
        ),
        data=DataConfig(held_out_fraction=0.0),
    )
