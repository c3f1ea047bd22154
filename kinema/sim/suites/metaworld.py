"""Meta-World v3: 50 manipulation tasks of a simulated Sawyer arm, each with a scripted expert.

Yu et al. 2019, "Meta-World: A Benchmark and Evaluation for Multi-Task and Meta Reinforcement Learning"; the four
difficulty groups are those of published MT50 tables (Seo et al. 2022, "Masked World Models for Visual Control").
"""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from kinema.core.episode import Start
from kinema.core.errors import KinemaError, SpecMismatch, UnavailableError, nearest, unknown
from kinema.core.rng import seed_of
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.sim.rendering import QUALITIES, CameraRenderer, Crop, choose_backend
from kinema.sim.suites.base import Expert, Objects, SimEnvironment, Suite, Task

VIEWS: Mapping[str, tuple[str, Crop]] = {
    **{name: (name, Crop()) for name in ("topview", "corner", "corner2", "corner3", "corner4")},
    **{name: (name, Crop()) for name in ("behindGripper", "gripperPOV")},
    "topview_table": ("topview", Crop(right=-0.04, down=-0.17, size=0.66)),
    "corner_table": ("corner", Crop(right=-0.04, down=0.0, size=0.58)),
    "corner2_table": ("corner2", Crop(right=0.05, down=0.02, size=0.5)),
    "corner3_table": ("corner3", Crop(right=0.0, down=0.0, size=0.5)),
}
"""View name -> camera of the benchmark and the part of its picture; `*_table` views show the workspace alone."""

MT10 = (
    "reach",
    "push",
    "pick-place",
    "door-open",
    "drawer-open",
    "drawer-close",
    "button-press-topdown",
    "peg-insert-side",
    "window-open",
    "window-close",
)
DEMO = ("drawer-open", "drawer-close", "window-open", "door-open")
RATE_HZ = 80.0
_STATE = tuple(f"{when}.{part}" for when in ("now", "before") for part in (
    "hand_x", "hand_y", "hand_z", "gripper_opening", *(f"object{i}_{axis}" for i in (1, 2)
    for axis in ("x", "y", "z", "qx", "qy", "qz", "qw"))
)) + ("goal_x", "goal_y", "goal_z")  # fmt: skip

PROPRIOCEPTION = Vector(
    name="proprioception",
    components=("hand_x", "hand_y", "hand_z", "gripper_opening"),
    units=("m", "m", "m", "fraction of 0.1 m"),
    frame="world",
)
FULL_STATE = Vector(
    name="full_state",
    components=_STATE,
    units=tuple("1" if "_q" in name else "fraction of 0.1 m" if "opening" in name else "m" for name in _STATE),
    frame="world",
    rotation="as the benchmark gives it: MuJoCo or scipy order, depending on the task",
)
ACTION = ActionSpec(
    components=("dx", "dy", "dz", "gripper"),
    units=("cm", "cm", "cm", "effort"),
    frame="world",
    kind="end-effector delta position",
    integrator="benchmark: moves a mocap body welded to the hand, clipped to the workspace",
    low=(-1.0, -1.0, -1.0, -1.0),
    high=(1.0, 1.0, 1.0, 1.0),
    gripper="+1 closes, -1 opens",
)
OBJECTS = Objects(
    hand=(0, 3),
    positions={"object1": (4, 7), "object2": (11, 14), "goal": (36, 39)},
    action_m=0.01,
    segments={
        "reach": ("goal",),
        **dict.fromkeys(("push", "pick-place", "peg-insert-side"), ("object1", "goal")),
        **dict.fromkeys(("door-open", "drawer-open", "drawer-close", "button-press-topdown"), ("object1",)),
        **dict.fromkeys(("window-open", "window-close"), ("object1",)),
    },
)


@cache
def _texts() -> Mapping[str, Mapping[str, Any]]:
    return json.loads(resources.files("kinema.sim.suites").joinpath("metaworld.json").read_text("utf-8"))


@dataclass(frozen=True, kw_only=True)
class MetaWorld(Suite):
    """The benchmark with the given views at `size` x `size` pixels; `full_state` adds the 39-number state."""

    cameras: tuple[str, ...] = ("corner_table", "corner2_table", "gripperPOV")
    size: int = 96
    rendering: str = "fast"
    full_state: bool = False
    max_steps: int = 500

    def __post_init__(self) -> None:
        for camera in self.cameras:
            if camera not in VIEWS:
                raise unknown("Meta-World camera", camera, VIEWS)
        if self.rendering not in QUALITIES:
            raise unknown("rendering quality", self.rendering, QUALITIES)
        if not 16 <= self.size <= 2048 or not 1 <= self.max_steps <= 500:
            raise KinemaError(f"size {self.size} (16 to 2048 px) or max_steps {self.max_steps} (1 to 500) out of range")

    @property
    def spec(self) -> RobotSpec:
        """A Sawyer arm at 80 Hz that is moved by end-effector displacements."""
        vectors = (PROPRIOCEPTION, FULL_STATE) if self.full_state else (PROPRIOCEPTION,)
        cameras = tuple(Camera(name=name, height=self.size, width=self.size) for name in self.cameras)
        observation = ObservationSpec(cameras=cameras, vectors=vectors, instruction=True)
        return RobotSpec(embodiment="metaworld-sawyer", rate_hz=RATE_HZ, observation=observation, action=ACTION)

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The 50 tasks in alphabetical order."""
        return {
            name: Task(
                name=name,
                instruction=entry["instruction"],
                paraphrases=tuple(entry["paraphrases"]),
                held_out=tuple(entry["held_out"]),
                group=entry["group"],
            )
            for name, entry in _texts().items()
        }

    @property
    def selections(self) -> Mapping[str, tuple[str, ...]]:
        """`mt10`, `mt50`, `demo` and the four difficulty groups."""
        texts = _texts()
        groups = {
            group.replace("_", "-"): tuple(name for name, entry in texts.items() if entry["group"] == group)
            for group in ("easy", "medium", "hard", "very_hard")
        }
        return {"mt10": MT10, "mt50": tuple(texts), "demo": DEMO, **groups}

    @property
    def objects(self) -> Objects:
        """The hand, the objects and the goal of MT10's tasks."""
        return OBJECTS

    def make(self) -> MetaWorldEnvironment:
        """Return an environment that can play every task."""
        return MetaWorldEnvironment(self)

    def offering(self, observation: ObservationSpec) -> MetaWorld:
        """Return the suite with the cameras of `observation` at their size, and the full state if it is read."""
        names = tuple(camera.name for camera in observation.cameras)
        for name in names:
            if name not in VIEWS:
                raise SpecMismatch(
                    f"Meta-World has no camera {name!r}{nearest(name, VIEWS)}; it has: {', '.join(VIEWS)}"
                )
        vectors = {vector.name: vector for vector in (PROPRIOCEPTION, FULL_STATE)}
        for vector in observation.vectors:
            if vector.name not in vectors:
                raise SpecMismatch(
                    f"Meta-World has no vector {vector.name!r}{nearest(vector.name, vectors)}; "
                    f"it has: {', '.join(vectors)}"
                )
        sizes = {(camera.height, camera.width) for camera in observation.cameras} or {(self.size, self.size)}
        if len(sizes) > 1 or any(height != width for height, width in sizes):
            raise SpecMismatch(f"Meta-World renders square pictures of one size, not {sorted(sizes)}")
        full = any(vector.name == FULL_STATE.name for vector in observation.vectors)
        return replace(self, cameras=names, size=sizes.pop()[0], full_state=full)

    def expert(self, task: str) -> Expert:
        """Return the benchmark's own scripted policy for `task`, clipped to the action bounds."""
        self.select([task])
        policies = _import("metaworld.policies")
        policy = getattr(policies, _texts()[task]["expert"])()

        def act(state: np.ndarray) -> np.ndarray:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return np.clip(policy.get_action(state), -1.0, 1.0).astype(np.float32)

        return act


def _import(name: str) -> Any:
    choose_backend()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"the Meta-World suite needs the package {error.name!r}\nfix: pip install 'kinema[sim]'"
        ) from error


class MetaWorldEnvironment(SimEnvironment):
    """One Sawyer arm; keeps one simulator per task played, because building one costs more than resetting it."""

    def __init__(self, suite: MetaWorld) -> None:
        self._suite = suite
        self._classes = _import("metaworld.env_dict").ALL_V3_ENVIRONMENTS
        self._simulators: dict[str, Any] = {}
        self._renderers: dict[tuple[str, int], CameraRenderer] = {}
        self._task = ""
        self._state = np.zeros(39)

    def begin(self, start: Start) -> None:
        """Draw the benchmark's random vector from (seed, task, episode), freeze it and reset, as its task lists do."""
        self._suite.select([start.task])
        if start.task not in self._simulators:
            self._simulators[start.task] = self._build(start.task)
        self._task = start.task
        simulator = self._simulators[start.task]
        simulator.seed(seed_of("metaworld", start.seed, start.task, start.episode) % 2**32)
        simulator._freeze_rand_vec = False
        simulator.reset()
        simulator._freeze_rand_vec = True
        self._state = simulator.reset()[0]

    def _build(self, task: str) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            simulator = self._classes[f"{task}-v3"]()
        # What `Benchmark.set_task` sets: a fully observable goal and a random vector that `reset` draws from the seed.
        simulator._partially_observable = False
        simulator.__dict__.pop("sawyer_observation_space", None)
        simulator._set_task_called = True
        simulator.seeded_rand_vec = True
        return simulator

    def step(self, action: np.ndarray) -> bool:
        """Run one 12.5 ms control step and return the benchmark's own success flag."""
        if np.shape(action) != (ACTION.width,) or not np.isfinite(action).all():
            raise KinemaError(f"action {np.asarray(action)!r:.200}: expected {ACTION.width} finite numbers")
        self._state, _, _, _, info = self._simulators[self._task].step(np.clip(action, -1.0, 1.0).astype(np.float32))
        return bool(info["success"])

    def observe(self) -> dict[str, np.ndarray]:
        """Return the suite's views and vectors of the current state."""
        frame = {f"image.{name}": self._render(name, self._suite.size) for name in self._suite.cameras}
        frame[PROPRIOCEPTION.key] = self._state[:4].astype(np.float32)
        if self._suite.full_state:
            frame[FULL_STATE.key] = self._state.astype(np.float32)
        return frame

    def picture(self, size: int) -> np.ndarray:
        """Return the cropped `corner2` view."""
        return self._render("corner2_table", size)

    def _render(self, view: str, size: int) -> np.ndarray:
        simulator = self._simulators[self._task]
        key = (self._task, size)
        if key not in self._renderers:
            self._renderers[key] = CameraRenderer(simulator.model, size, QUALITIES[self._suite.rendering])
        camera, crop = VIEWS[view]
        return self._renderers[key].render(simulator.data, camera, crop)

    def expert_state(self) -> np.ndarray:
        """Return the benchmark's 39 numbers: hand, objects, the same one step before, goal."""
        return self._state

    def close(self) -> None:
        """Close renderers and simulators."""
        for renderer in self._renderers.values():
            renderer.close()
        for simulator in self._simulators.values():
            simulator.close()
        self._renderers.clear()
        self._simulators.clear()
