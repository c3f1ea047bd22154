"""Many demonstrations from few: object-centric segments of recorded ones, moved to where the objects are now.

Mandlekar et al. 2023, "MimicGen: A Data Generation System for Scalable Robot Learning using Human Demonstrations". A
demonstration is cut into segments, each relative to one object. In a new scene every segment's controller targets are
moved with its object, reached in a line, and replayed. What does not succeed is thrown away by `collect`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from kinema.core.errors import KinemaError, unknown
from kinema.core.spec import ObservationSpec, RobotSpec
from kinema.sim.suites.base import Expert, Objects, SimEnvironment, Suite, Task

_REACH_STEP_M = 0.008
"""Length of an interpolated step: less than an arm that moves 1 cm a step can follow."""
_CARRIED_M = 0.01
"""How far an object has moved when it counts as carried."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Part of a demonstration: its object and that object's pose (4, 4), targets (T, 4, 4), gripper commands (T,)."""

    reference: str
    pose: np.ndarray
    targets: np.ndarray
    gripper: np.ndarray


def move(targets: np.ndarray, before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Return `targets` (T, 4, 4) after their object went from pose `before` to `now`: T' = T_now T_before^-1 T."""
    return now @ np.linalg.inv(before) @ targets


def cut(task: str, states: np.ndarray, actions: np.ndarray, objects: Objects) -> tuple[Segment, ...]:
    """Return a demonstration of `task`, states (T, S) and actions (T, A), as segments.

    A segment ends when its object has moved by 1 cm: from then on the hand carries it, and the next object counts.
    The target of a step is the hand's position plus the action, whatever the arm then did.
    """
    if task not in objects.segments:
        raise unknown("task with known segments", task, objects.segments)
    names, targets, segments, begin = objects.segments[task], _targets(states, actions, objects), [], 0
    for name in names:
        first, last = objects.positions[name]
        moved = np.linalg.norm(states[:, first:last] - states[0, first:last], axis=1) > _CARRIED_M
        end = len(states) if name == names[-1] else int(np.argmax(moved))
        if end <= begin:
            raise KinemaError(f"a demonstration of {task!r} never moves {name}, so that its segment has no end")
        part = slice(begin, end)
        pose = _pose(states[0], objects, name)
        segments.append(Segment(reference=name, pose=pose, targets=targets[part], gripper=actions[part, -1]))
        begin = end
    return tuple(segments)


def _targets(states: np.ndarray, actions: np.ndarray, objects: Objects) -> np.ndarray:
    poses = np.tile(np.eye(4), (len(states), 1, 1))
    poses[:, :3, 3] = states[:, slice(*objects.hand)] + actions[:, :-1] * objects.action_m
    return poses


def _pose(state: np.ndarray, objects: Objects, name: str) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, 3] = state[slice(*objects.positions[name])]
    return pose


@dataclass(frozen=True, kw_only=True)
class MimicGen(Suite):
    """A suite whose experts replay the nearest of a few demonstrations, moved to the objects of the new scene."""

    suite: Suite
    demonstrations: Mapping[str, tuple[tuple[Segment, ...], ...]]

    @property
    def max_steps(self) -> int:  # type: ignore[override]
        """The suite's own limit."""
        return self.suite.max_steps

    @property
    def spec(self) -> RobotSpec:
        """The suite's own interface."""
        return self.suite.spec

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks that were demonstrated."""
        return {name: self.suite.tasks[name] for name in self.demonstrations}

    @property
    def selections(self) -> Mapping[str, tuple[str, ...]]:
        """None: tasks are chosen by name."""
        return {}

    def make(self) -> SimEnvironment:
        """Return an environment of the suite."""
        return self.suite.make()

    def offering(self, observation: ObservationSpec) -> MimicGen:
        """Return the same generator with the cameras of `observation`."""
        return replace(self, suite=self.suite.offering(observation))

    def expert(self, task: str) -> Expert:
        """Return what plays one episode of `task`; the scene of its first call chooses the demonstration."""
        objects, low, high = self.suite.objects, self.spec.action.low, self.spec.action.high
        path: list[Iterator[tuple[np.ndarray, float]]] = []

        def act(state: np.ndarray) -> np.ndarray:
            if not path:
                path.append(_path(self._nearest(task, state), state, objects))
            target, gripper = next(path[0])
            shift = (target - state[slice(*objects.hand)]) / objects.action_m
            return np.clip([*shift, gripper], low, high).astype(np.float32)

        return act

    def _nearest(self, task: str, state: np.ndarray) -> tuple[Segment, ...]:
        def distance(segments: tuple[Segment, ...]) -> float:
            apart = [_pose(state, self.suite.objects, s.reference)[:3, 3] - s.pose[:3, 3] for s in segments]
            return float(np.linalg.norm(apart))

        return min(self.demonstrations[task], key=distance)


def _path(segments: tuple[Segment, ...], state: np.ndarray, objects: Objects) -> Iterator[tuple[np.ndarray, float]]:
    """Yield (position, gripper) step by step: to the beginning of each segment in a line, then along it; then stay."""
    at, gripper = state[slice(*objects.hand)].copy(), float(segments[0].gripper[0])
    poses = [_pose(state, objects, segment.reference) for segment in segments]
    for segment, pose in zip(segments, poses, strict=True):
        positions = move(segment.targets, segment.pose, pose)[:, :3, 3]
        steps = int(np.ceil(np.linalg.norm(positions[0] - at) / _REACH_STEP_M))
        for step in range(1, steps):
            yield at + (positions[0] - at) * step / steps, gripper
        for position, command in zip(positions, segment.gripper, strict=True):
            yield position, float(command)
        at, gripper = positions[-1], float(segment.gripper[-1])
    while True:
        yield at, gripper
