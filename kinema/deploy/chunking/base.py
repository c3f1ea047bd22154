"""The contract of a chunking rule, and what rules share that draw chunks again before the last one has ended.

A rule is a frozen configuration; `wrap` puts it around a policy and gives a Policy. Whoever calls `act` runs the first
`exec_horizon` actions in every batch entry and calls again, so a wrapper knows at which step each episode is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kinema.actions.end_effector import CHUNK_START
from kinema.core.errors import KinemaError
from kinema.core.policy import Chunk, ChunkSampler, Observation, Policy
from kinema.core.rng import seed_of
from kinema.core.spec import ActionSpec


class Chunking(ABC):
    """Frozen description of how chunks are executed."""

    @abstractmethod
    def wrap(self, policy: Policy) -> Policy:
        """Return `policy` executed by this rule; raises KinemaError when the two do not fit."""


@dataclass
class _Plan:
    action: np.ndarray
    due: int


class Replanning(Policy):
    """A policy that draws a new chunk for each batch entry whose time has come, and knows the rest of the one before.

    Each entry keeps its own plan, so what happens in one does not depend on the others. Noise is a function of the
    episode's seed and the number of chunks drawn in it.
    """

    def __init__(self, policy: Policy) -> None:
        if not isinstance(policy, ChunkSampler):
            raise KinemaError(
                f"{type(policy).__name__} only acts step after step; this rule must draw chunks anew: "
                "give it the trained policy itself"
            )
        check_cuttable(policy)
        self.policy = policy
        self.spec, self.obs_horizon = policy.spec, policy.obs_horizon
        self._plans: dict[int, _Plan] = {}
        self._seeds: dict[int, int] = {}
        self._drawn: dict[int, int] = {}

    @abstractmethod
    def replan(
        self, observation: Observation, rest: Sequence[np.ndarray | None], seeds: Sequence[int]
    ) -> tuple[np.ndarray, Sequence[int]]:
        """Return new chunks (n, H, A) for the n rows, and after how many steps each is to be replaced.

        `rest` holds what is left (steps, A) of each row's chunk, from this step on, None where an episode begins.
        """

    def reset(self, which: Sequence[int] | None = None, *, seeds: Sequence[int] | None = None) -> None:
        """Forget the plans of the entries `which`, and begin new noise."""
        entries = list(self._seeds) if which is None else list(which)
        if seeds is not None and len(seeds) != len(entries):
            raise KinemaError(f"reset: {len(seeds)} seeds for {len(entries)} batch entries")
        for place, entry in enumerate(entries):
            self._plans.pop(entry, None)
            self._seeds[entry] = seed_of("chunking", entry) if seeds is None else seeds[place]
            self._drawn[entry] = 0

    def act(self, observation: Observation) -> Chunk:
        """Return the next actions of all entries, up to the first moment at which one of them draws again."""
        entries = range(batch_size(observation))
        self.reset([entry for entry in entries if entry not in self._seeds])
        due = [entry for entry in entries if entry not in self._plans or self._plans[entry].due == 0]
        if due:
            rest = [self._plans[entry].action if entry in self._plans else None for entry in due]
            chunks, steps = self.replan(take(observation, due), rest, self._draw_seeds(due))
            for entry, chunk, count in zip(due, chunks, steps, strict=True):
                self._plans[entry] = _Plan(chunk, int(count))
        plans = [self._plans[entry] for entry in entries]
        run = min(plan.due for plan in plans)
        action = np.stack([plan.action[:run] for plan in plans])
        for plan in plans:
            plan.action, plan.due = plan.action[run:], plan.due - run
        return Chunk(action=action, exec_horizon=run)

    def _draw_seeds(self, entries: Sequence[int]) -> list[int]:
        seeds = [seed_of("chunk", self._seeds[entry], self._drawn[entry]) for entry in entries]
        for entry in entries:
            self._drawn[entry] += 1
        return seeds


def check_cuttable(policy: Policy) -> None:
    """Raise KinemaError for a policy whose chunks must not be cut, or joined with others."""
    if isinstance(policy, Replanning):
        raise KinemaError(
            f"{type(policy).__name__} decides itself how much of a chunk is run, and would count steps that are not: "
            "give this rule the trained policy itself"
        )
    if policy.spec.action.frame == CHUNK_START:
        raise KinemaError(
            f"actions as seen from the {CHUNK_START!r} would be run from another start: a rule cuts chunks and joins "
            "them\nfix: actions in a fixed frame, which the transform RelativeAction makes relative for the network"
        )


def batch_size(observation: Observation) -> int:
    """Return the number of batch entries of an observation."""
    for value in observation.values():
        return len(value)
    raise KinemaError("the observation is empty")


def take(observation: Observation, entries: Sequence[int]) -> dict[str, Any]:
    """Return the given entries of an observation, in this order; an entry may come several times."""
    return {
        key: value[list(entries)] if isinstance(value, np.ndarray) else [value[entry] for entry in entries]
        for key, value in observation.items()
    }


def draws(policy: ChunkSampler, observation: Observation, seeds: Sequence[int], count: int) -> np.ndarray:
    """Return `count` chunks (count, n, H, A) for each of the n rows; the first is what the row's seed alone gives."""
    rows = [row for _ in range(count) for row in range(len(seeds))]
    every = [seed if k == 0 else seed_of("draw", seed, k) for k in range(count) for seed in seeds]
    chunks = policy.draw(take(observation, rows), seeds=every)
    return chunks.reshape(count, len(seeds), *chunks.shape[1:])


def distance(first: np.ndarray, second: np.ndarray, spec: ActionSpec) -> np.ndarray:
    """Return how far actions (..., A) are apart (...): root mean square of differences in halves of each range.

    1 is half of the way from `low` to `high` in every component, whatever its unit.
    """
    half = (np.asarray(spec.high, np.float64) - np.asarray(spec.low, np.float64)) / 2
    if not np.isfinite(half).all():
        raise KinemaError("actions without bounds cannot be compared: the ActionSpec needs finite low and high")
    return np.sqrt((((first - second) / half) ** 2).mean(-1))
