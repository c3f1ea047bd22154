"""Many environments in processes, stepped by chunks of actions, through gymnasium's vector API.

Rendering is most of the cost of a simulated step, and a policy that executes a chunk needs a picture only at its end:
one call runs the whole chunk in the worker and renders once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from kinema.core.episode import Start
from kinema.core.errors import KinemaError
from kinema.sim.rendering import choose_backend
from kinema.sim.suites.base import Suite
from kinema.sim.workers import become_worker


@dataclass(frozen=True, kw_only=True)
class SimStep:
    """What happened in all slots: observation, success so far (B,), done (B,) and the steps run in this call (B,)."""

    observation: Mapping[str, np.ndarray]
    success: np.ndarray
    done: np.ndarray
    executed: np.ndarray


class ChunkEnvironment(gymnasium.Env[dict[str, np.ndarray], np.ndarray]):
    """A suite's environment whose action is a chunk (h, A) and whose observation is the last `obs_horizon` steps."""

    def __init__(self, suite: Suite, obs_horizon: int) -> None:
        self._environment = suite.make()
        self._max_steps = suite.max_steps
        self._history: deque[dict[str, np.ndarray]] = deque(maxlen=obs_horizon)
        self._steps = 0
        self._success = False
        self.start: Start | None = None
        spec = suite.spec
        spaces: dict[str, gymnasium.Space[Any]] = {}
        for camera in spec.observation.cameras:
            shape = (obs_horizon, *spec.observation.shape(camera.key))
            spaces[camera.key] = gymnasium.spaces.Box(0, 255, shape, np.uint8)
        for vector in spec.observation.vectors:
            shape = (obs_horizon, *spec.observation.shape(vector.key))
            spaces[vector.key] = gymnasium.spaces.Box(-np.inf, np.inf, shape, np.float32)
        self.observation_space = gymnasium.spaces.Dict(spaces)
        low, high = np.array(spec.action.low, np.float32), np.array(spec.action.high, np.float32)
        self.action_space = gymnasium.spaces.Box(low, high, dtype=np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin the episode of the attribute `start`; seeds and options have no meaning here."""
        if self.start is None:
            raise KinemaError("set the attribute `start` before reset")
        self._environment.begin(self.start)
        self._steps, self._success = 0, False
        self._history.clear()
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Run the chunk until it ends, succeeds or the time limit is reached; a finished episode stays still."""
        executed = 0
        for index, row in enumerate(action):
            if self._success or self._steps >= self._max_steps:
                break
            self._success = self._environment.step(row)
            self._steps += 1
            executed += 1
            # Only the newest `obs_horizon` frames will be seen: render no others.
            if index >= len(action) - (self._history.maxlen or 1) and index < len(action) - 1:
                self._history.append(self._environment.observe())
        observation = self._observe() if executed else self._stacked()
        info = {"executed": executed, "success": self._success}
        return observation, float(self._success), self._success, self._steps >= self._max_steps, info

    def _observe(self) -> dict[str, np.ndarray]:
        self._history.append(self._environment.observe())
        return self._stacked()

    def _stacked(self) -> dict[str, np.ndarray]:
        frames = list(self._history)
        frames = [frames[0]] * ((self._history.maxlen or 1) - len(frames)) + frames
        return {key: np.stack([frame[key] for frame in frames]) for key in frames[0]}

    def close(self) -> None:
        """Free the simulator."""
        self._environment.close()


@dataclass(frozen=True)
class _Factory:
    suite: Suite
    obs_horizon: int

    def __call__(self) -> ChunkEnvironment:
        become_worker()
        return ChunkEnvironment(self.suite, self.obs_horizon)


class VectorSimulator:
    """`num_envs` environments of one suite, each in its own process; slots begin and end episodes independently.

    Where one does not answer within `timeout_s`, `reset` and `step` raise multiprocessing's TimeoutError; after any
    exception but a KinemaError only `abandon` is left.
    """

    def __init__(self, suite: Suite, *, num_envs: int, obs_horizon: int, timeout_s: float | None = None) -> None:
        choose_backend()
        self._timeout_s = timeout_s
        factory = _Factory(suite, obs_horizon)
        self.num_envs = num_envs
        self._starts: list[Start | None] = [None] * num_envs
        self._vector = AsyncVectorEnv(
            [factory] * num_envs, context="spawn", shared_memory=True, autoreset_mode=AutoresetMode.DISABLED
        )

    def reset(self, starts: Mapping[int, Start]) -> Mapping[str, np.ndarray]:
        """Begin the given episodes in the given slots and return the observation of all slots, arrays (B, T, ...).

        Slots that never began an episode begin the first given one, so that every slot holds a valid observation.
        """
        first = next(iter(starts.values()))
        mask = np.zeros(self.num_envs, bool)
        for slot in range(self.num_envs):
            if slot in starts or self._starts[slot] is None:
                self._starts[slot] = starts.get(slot, first)
                mask[slot] = True
        self._vector.set_attr("start", list(self._starts))
        self._vector.reset_async(options={"reset_mask": mask})
        observation, _ = self._vector.reset_wait(timeout=self._timeout_s)
        return observation

    def step(self, action: np.ndarray) -> SimStep:
        """Run chunks (B, h, A); slots whose episode has ended stay still."""
        self._vector.step_async(action)
        observation, _, success, truncated, info = self._vector.step_wait(timeout=self._timeout_s)
        return SimStep(
            observation=observation,
            success=np.asarray(success, bool),
            done=np.asarray(success | truncated, bool),
            executed=np.asarray(info["executed"], np.int64),
        )

    def close(self) -> None:
        """End the worker processes."""
        self._vector.close()

    def abandon(self) -> None:
        """End the worker processes at once, whatever they are doing; none is asked, so none can refuse."""
        for process in self._vector.processes:
            process.kill()
            process.join()
        for pipe in self._vector.parent_pipes:
            if pipe is not None:
                pipe.close()
        self._vector.closed = True
