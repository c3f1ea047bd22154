"""What every benchmark suite offers: tasks with instructions, a typed interface, environments and experts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kinema.core.episode import Start
from kinema.core.errors import KinemaError, unknown
from kinema.core.spec import ObservationSpec, RobotSpec


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task: instruction, paraphrases for training, held-out paraphrases for evaluation, and its group in tables."""

    name: str
    instruction: str
    paraphrases: tuple[str, ...]
    held_out: tuple[str, ...]
    group: str


@dataclass(frozen=True, kw_only=True)
class Objects:
    """Where things stand in `expert_state`, so that demonstrations can be moved with their objects.

    `hand` is the hand's position and `positions` those of the objects (first number, one past the last); an action's
    first components are displacements of the hand in units of `action_m` metres, the last one is the gripper.
    `segments` names, per task, the objects that the hand moves relative to, one after the other.
    """

    hand: tuple[int, int]
    positions: Mapping[str, tuple[int, int]]
    action_m: float
    segments: Mapping[str, tuple[str, ...]]


class SimEnvironment(ABC):
    """One simulated robot that can be put into any task of its suite; it renders only in `observe` and `picture`."""

    @abstractmethod
    def begin(self, start: Start) -> None:
        """Put the world into the initial state of `start`, whatever happened before."""

    @abstractmethod
    def step(self, action: np.ndarray) -> bool:
        """Run one control step with `action` (A,) and return whether the benchmark's success condition holds now."""

    @abstractmethod
    def observe(self) -> dict[str, np.ndarray]:
        """Return `image.*` (Hi, Wi, 3) uint8 and `vector.*` (D,) float32 of the current state."""

    @abstractmethod
    def picture(self, size: int) -> np.ndarray:
        """Return a (size, size, 3) uint8 view of the scene for people to watch."""

    @abstractmethod
    def expert_state(self) -> np.ndarray:
        """Return what the scripted expert sees."""

    @abstractmethod
    def close(self) -> None:
        """Free simulators and graphics contexts."""


Expert = Callable[[np.ndarray], np.ndarray]
"""Maps `expert_state` to the action (A,) float32, within the bounds of the ActionSpec."""


class Suite(ABC):
    """A benchmark: a frozen dataclass of options, so that a manifest can say exactly what was simulated."""

    max_steps: int

    @property
    @abstractmethod
    def spec(self) -> RobotSpec:
        """The interface of the simulated robot under these options."""

    @property
    @abstractmethod
    def tasks(self) -> Mapping[str, Task]:
        """All tasks by name."""

    @property
    @abstractmethod
    def selections(self) -> Mapping[str, tuple[str, ...]]:
        """Named lists of tasks, such as `mt10`."""

    @abstractmethod
    def make(self) -> SimEnvironment:
        """Return a new environment; call it in the process that will use it."""

    @abstractmethod
    def offering(self, observation: ObservationSpec) -> Suite:
        """Return this suite with the cameras and vectors of `observation`; raises SpecMismatch when it cannot."""

    @abstractmethod
    def expert(self, task: str) -> Expert:
        """Return the scripted expert of `task`."""

    @property
    def objects(self) -> Objects:
        """What generating demonstrations needs to know; raises KinemaError for a suite that does not say."""
        raise KinemaError(f"{type(self).__name__} does not say where its objects are: nothing can be generated for it")

    def select(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return task names for a list of tasks and selections, in order, each once; unknown names are errors."""
        chosen: dict[str, None] = {}
        for name in names:
            if name in self.selections:
                chosen.update(dict.fromkeys(self.selections[name]))
            elif name in self.tasks:
                chosen[name] = None
            else:
                raise unknown("task", name, (*self.tasks, *self.selections))
        return tuple(chosen)
