"""Lang-Reach: a hand on a table with three coloured targets, and a sentence that says which one to touch.

Numpy alone draws it, in a fraction of a millisecond. A policy that ignores the sentence succeeds in a third of the
episodes, one that ignores the picture in next to none: what is above that has understood both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from kinema.core.episode import Start
from kinema.core.errors import KinemaError, SpecMismatch, nearest
from kinema.core.rng import generator
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.sim.suites.base import Expert, SimEnvironment, Suite, Task

COLOURS: Mapping[str, tuple[int, int, int]] = {"red": (210, 50, 45), "green": (40, 160, 70), "blue": (50, 80, 210)}
TABLE, HAND = (200, 190, 170), (30, 30, 30)
TARGET_M, HAND_M = 0.15, 0.08
"""Radii of a target and of the hand on a table that reaches from -1 to 1 m; the hand's centre touches a target."""
STEP_M = 0.1
"""Displacement of the hand by an action of 1."""
CAMERA = "table"

POSITION = Vector(name="hand", components=("x", "y"), units=("m", "m"), frame="table")
ACTION = ActionSpec(
    components=("dx", "dy"),
    units=("dm", "dm"),
    frame="table",
    kind="end-effector delta position",
    integrator="benchmark: moves the hand at once, clipped to the table",
    low=(-1.0, -1.0),
    high=(1.0, 1.0),
)


@dataclass(frozen=True, kw_only=True)
class LangReach(Suite):
    """The table seen from above at `size` x `size` pixels; an episode is lost with the first wrong target touched."""

    size: int = 48
    cameras: tuple[str, ...] = (CAMERA,)
    max_steps: int = 40

    def __post_init__(self) -> None:
        if self.cameras not in ((), (CAMERA,)):
            raise KinemaError(f"Lang-Reach has the one camera {CAMERA!r}, not {self.cameras}")
        if not 16 <= self.size <= 1024 or not 1 <= self.max_steps <= 1000:
            raise KinemaError(
                f"size {self.size} (16 to 1024 px) or max_steps {self.max_steps} (1 to 1000) out of range"
            )

    @property
    def spec(self) -> RobotSpec:
        """A point on a table at 10 Hz that is moved by displacements."""
        cameras = tuple(Camera(name=name, height=self.size, width=self.size) for name in self.cameras)
        observation = ObservationSpec(cameras=cameras, vectors=(POSITION,), instruction=True)
        return RobotSpec(embodiment="lang-reach-point", rate_hz=10.0, observation=observation, action=ACTION)

    @property
    def tasks(self) -> Mapping[str, Task]:
        """One task a colour."""
        return {name: _task(name, colour) for name, colour in ((f"reach-{colour}", colour) for colour in COLOURS)}

    @property
    def selections(self) -> Mapping[str, tuple[str, ...]]:
        """`all` three tasks."""
        return {"all": tuple(self.tasks)}

    def make(self) -> LangReachEnvironment:
        """Return an environment that can play every task."""
        return LangReachEnvironment(self)

    def offering(self, observation: ObservationSpec) -> LangReach:
        """Return the suite with the camera of `observation`, if it has one, at its size."""
        for camera in observation.cameras:
            if camera.name != CAMERA:
                raise SpecMismatch(f"Lang-Reach has no camera {camera.name!r}; it has: {CAMERA}")
            if camera.height != camera.width:
                raise SpecMismatch(f"Lang-Reach renders square pictures, not {camera.height} x {camera.width}")
        for vector in observation.vectors:
            if vector.name != POSITION.name:
                close = nearest(vector.name, [POSITION.name])
                raise SpecMismatch(f"Lang-Reach has no vector {vector.name!r}{close}; it has: {POSITION.name}")
        size = observation.cameras[0].height if observation.cameras else self.size
        return replace(self, cameras=tuple(camera.name for camera in observation.cameras), size=size)

    def expert(self, task: str) -> Expert:
        """Return the way straight to the target of `task`."""
        column = 2 + 2 * self._target(task)

        def act(state: np.ndarray) -> np.ndarray:
            way = (state[column : column + 2] - state[:2]) / STEP_M
            return (way / max(1.0, float(np.linalg.norm(way)))).astype(np.float32)

        return act

    def _target(self, task: str) -> int:
        return list(self.tasks).index(self.select([task])[0])


def _task(name: str, colour: str) -> Task:
    return Task(
        name=name,
        instruction=f"reach the {colour} target",
        paraphrases=(f"go to the {colour} disc", f"touch the {colour} one", f"move the hand onto the {colour} target"),
        held_out=(f"touch the {colour} disc", f"move to the {colour} one"),
        group="easy",
    )


class LangReachEnvironment(SimEnvironment):
    """Positions of the hand and of the three targets, and which target was touched first."""

    def __init__(self, suite: LangReach) -> None:
        self._suite = suite
        self._target = 0
        self._hand, self._targets = np.zeros(2), np.zeros((3, 2))
        self._touched: int | None = None

    def begin(self, start: Start) -> None:
        """Draw the hand near the middle and one target in each third of the circle around it, colours in any order."""
        self._target = self._suite._target(start.task)
        rng = generator("lang-reach", start.seed, start.task, start.episode)
        self._hand = rng.uniform(-0.15, 0.15, 2)
        # At least 70 degrees apart, so that no target hides another and the straight way to each is free.
        angles = rng.uniform(0, 2 * np.pi) + (np.arange(3) + rng.uniform(-0.2, 0.2, 3)) * 2 * np.pi / 3
        away = rng.uniform(0.55, 0.85, (3, 1)) * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        self._targets = rng.permutation(away)
        self._touched = None

    def step(self, action: np.ndarray) -> bool:
        """Move the hand and return whether the first target it touched is the one that was asked for."""
        if np.shape(action) != (ACTION.width,) or not np.isfinite(action).all():
            raise KinemaError(f"action {np.asarray(action)!r:.200}: expected {ACTION.width} finite numbers")
        moved = self._hand + STEP_M * np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        self._hand = np.clip(moved, -1.0, 1.0)
        distance = np.linalg.norm(self._targets - self._hand, axis=-1)
        if self._touched is None and distance.min() < TARGET_M:
            self._touched = int(distance.argmin())
        return self._touched == self._target

    def observe(self) -> dict[str, np.ndarray]:
        """Return the picture and the hand's position."""
        frame = {f"image.{name}": self.picture(self._suite.size) for name in self._suite.cameras}
        return {**frame, POSITION.key: self._hand.astype(np.float32)}

    def picture(self, size: int) -> np.ndarray:
        """Return the table from above, x to the right and y upwards, with edges smooth over one pixel."""
        centre = (np.arange(size) + 0.5) / size * 2 - 1
        picture = np.broadcast_to(np.array(TABLE, np.float64), (size, size, 3))
        discs = [*zip(self._targets, COLOURS.values(), (TARGET_M,) * 3, strict=True), (self._hand, HAND, HAND_M)]
        for (x, y), colour, radius in discs:
            distance = np.hypot(centre[None, :] - x, -centre[:, None] - y)
            inside = np.clip((radius - distance) * size / 2 + 0.5, 0.0, 1.0)[..., None]
            picture = picture * (1 - inside) + np.array(colour) * inside
        return np.rint(picture).astype(np.uint8)

    def expert_state(self) -> np.ndarray:
        """Return eight numbers: the hand's position and those of the red, green and blue target [m]."""
        return np.concatenate([self._hand, self._targets.ravel()])

    def close(self) -> None:
        """Do nothing: there is nothing to free."""
