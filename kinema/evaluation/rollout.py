"""Runs a policy through trials in a batch of simulated environments.

A free slot takes the next trial, so slow episodes hold nobody up; what a trial sees and draws depends on its Start
alone, never on its slot or its neighbours.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from kinema.core.episode import Start
from kinema.core.errors import KinemaError, SpecMismatch, nearest
from kinema.core.policy import Observation, Policy
from kinema.core.rng import seed_of
from kinema.core.spec import INSTRUCTION


class SimStep(Protocol):
    """What one call of `Simulator.step` did, for all B slots."""

    @property
    def observation(self) -> Observation:
        """What all slots observe now."""

    @property
    def success(self) -> np.ndarray:
        """(B,) bool: succeeded so far in this episode."""

    @property
    def done(self) -> np.ndarray:
        """(B,) bool: success or time limit."""

    @property
    def executed(self) -> np.ndarray:
        """(B,) int: steps run in this call; 0 in a slot that was done, fewer than h only in one that became done."""


class Simulator(Protocol):
    """A batch of environments, one episode at a time per slot. Observations are (B, T, ...), without instruction."""

    num_envs: int

    def reset(self, starts: Mapping[int, Start]) -> Observation:
        """Begin these episodes in these slots and return the observation of all slots."""

    def step(self, action: np.ndarray) -> SimStep:
        """Run up to h steps of `action` (B, h, A) in every slot; slots that are done stay still."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One episode to attempt: its start, what is asked for, and the name of the condition ("seen", "held-out")."""

    start: Start
    instruction: str
    variant: str


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """How one trial ended.

    `seconds_inference` maps the number of each `act` call that this trial took part in to its wall seconds; a call
    serves the whole batch of `batch` slots, so trials share entries. `actions` (steps, A) float32 are those executed.
    """

    trial: Trial
    success: bool
    steps: int
    seconds_inference: Mapping[int, float]
    batch: int
    actions: np.ndarray


Progress = Callable[[TrialResult, int, int], None]
"""Called after each finished trial with (result, trials finished, trials in all)."""


def rollout(
    policy: Policy, simulator: Simulator, trials: Sequence[Trial], *, progress: Progress | None = None
) -> list[TrialResult]:
    """Return one result per trial, in the order of `trials`, whichever finished first.

    Raises KinemaError for a chunk of wrong shape or with values that are not finite, and SpecMismatch when the
    simulator does not offer what the policy observes. Extra cameras and older steps are not handed on.
    """
    if not trials:
        raise KinemaError("no trials to run")
    slots = _Slots(policy, simulator, trials)
    observation = slots.begin()
    results: dict[int, TrialResult] = {}
    call = 0
    while slots.running:
        given = observed(observation, policy, slots.instructions)
        began = time.perf_counter()
        chunk = policy.act(given)
        seconds = time.perf_counter() - began
        action = _checked_action(policy, chunk.action, chunk.exec_horizon, simulator.num_envs)
        step = simulator.step(action)
        _check_step(step, simulator.num_envs, action.shape[1], tuple(slots.running))
        for index, result in slots.advance(action, step, call, seconds):
            results[index] = result
            if progress is not None:
                progress(result, len(results), len(trials))
        observation = slots.refill() if slots.free and slots.waiting else step.observation
        call += 1
    return [results[index] for index in range(len(trials))]


def policy_seed(start: Start) -> int:
    """Return the seed of the policy's own randomness in the episode that begins at `start`."""
    return seed_of("policy", start.task, start.seed, start.episode)


@dataclass
class _Running:
    index: int
    trial: Trial
    actions: list[np.ndarray] = field(default_factory=list)
    seconds: dict[int, float] = field(default_factory=dict)


class _Slots:
    """Which trial runs where."""

    def __init__(self, policy: Policy, simulator: Simulator, trials: Sequence[Trial]) -> None:
        self.policy, self.simulator, self.trials = policy, simulator, trials
        self.waiting = deque(enumerate(trials))
        self.running: dict[int, _Running] = {}
        self.free: list[int] = []
        self.instructions = [trials[0].instruction] * simulator.num_envs

    def begin(self) -> Observation:
        """Begin the first trials; a slot that gets none runs a copy of the first trial, whose result is dropped."""
        starts = {slot: self._next(slot) or self.trials[0].start for slot in range(self.simulator.num_envs)}
        return self._reset(starts)

    def refill(self) -> Observation:
        """Begin the next trials in the free slots; the last slots to come free stay so."""
        starts = {slot: start for slot in self.free if (start := self._next(slot)) is not None}
        self.free = [slot for slot in self.free if slot not in starts]
        return self._reset(starts)

    def _next(self, slot: int) -> Start | None:
        if not self.waiting:
            return None
        index, trial = self.waiting.popleft()
        self.running[slot] = _Running(index, trial)
        self.instructions[slot] = trial.instruction
        return trial.start

    def _reset(self, starts: Mapping[int, Start]) -> Observation:
        self.policy.reset(list(starts), seeds=[policy_seed(start) for start in starts.values()])
        return self.simulator.reset(starts)

    def advance(self, action: np.ndarray, step: SimStep, call: int, seconds: float) -> list[tuple[int, TrialResult]]:
        """Note what was executed and return the trials that are done, with their place in the list."""
        finished = []
        for slot, run in list(self.running.items()):
            run.actions.append(action[slot, : int(step.executed[slot])].copy())
            run.seconds[call] = seconds
            if not step.done[slot]:
                continue
            actions = np.concatenate(run.actions)
            result = TrialResult(
                trial=run.trial,
                success=bool(step.success[slot]),
                steps=len(actions),
                seconds_inference=run.seconds,
                batch=self.simulator.num_envs,
                actions=actions,
            )
            finished.append((run.index, result))
            self.free.append(slot)
            del self.running[slot]
        return finished


def observed(observation: Observation, policy: Policy, instructions: Sequence[str]) -> dict[str, Any]:
    """Return what `policy` observes of a simulator's observation: its keys, its newest `obs_horizon` steps."""
    given: dict[str, Any] = {}
    for key in policy.spec.observation.keys:
        if key == INSTRUCTION:
            given[key] = list(instructions)
            continue
        if key not in observation:
            raise SpecMismatch(
                f"{type(policy).__name__} observes {key!r}, which the simulator does not offer"
                f"{nearest(key, observation)}; offered: {', '.join(observation) or 'nothing'}"
            )
        value = observation[key]
        if value.shape[1] < policy.obs_horizon:
            raise SpecMismatch(
                f"{key}: the simulator gives {value.shape[1]} steps, the policy observes {policy.obs_horizon}"
            )
        given[key] = value[:, value.shape[1] - policy.obs_horizon :]
    return given


def _checked_action(policy: Policy, action: np.ndarray, exec_horizon: int, batch: int) -> np.ndarray:
    name, width = type(policy).__name__, policy.spec.action.width
    action = np.asarray(action)
    if action.ndim != 3 or action.shape[0] != batch or action.shape[2] != width:
        raise KinemaError(f"{name} returned actions of shape {action.shape}, expected ({batch}, H, {width})")
    if not 1 <= exec_horizon <= action.shape[1]:
        raise KinemaError(f"{name} returned exec_horizon {exec_horizon}, expected 1 to {action.shape[1]} (its chunk)")
    if not np.isfinite(action).all():
        slot, step, component = (int(i) for i in np.argwhere(~np.isfinite(action))[0])
        bad = f"{action[slot, step, component]} for {policy.spec.action.components[component]!r}"
        raise KinemaError(f"{name} returned {bad} (batch entry {slot}, step {step} of its chunk)")
    return action[:, :exec_horizon].astype(np.float32)


def _check_step(step: SimStep, batch: int, horizon: int, running: tuple[int, ...]) -> None:
    for name in ("success", "done", "executed"):
        shape = np.shape(getattr(step, name))
        if shape != (batch,):
            raise KinemaError(f"the simulator returned {name} of shape {shape}, expected ({batch},)")
    for slot in running:
        executed, done = int(step.executed[slot]), bool(step.done[slot])
        if executed > horizon or (executed < horizon and not done):
            raise KinemaError(f"the simulator ran {executed} of {horizon} steps in slot {slot}, which is not done")
