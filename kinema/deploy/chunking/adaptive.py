"""Adaptive chunk length: run a chunk for as long as there is agreement about it.

There is no reference for this rule; what it does is defined here. When a chunk is drawn, a measure of disagreement is
taken for each of its steps, and the chunk is run up to the first step at which the measure exceeds `limit`, but at
least `shortest` and at most `longest` steps. Two measures are offered:

- "spread": the standard deviation of `samples` chunks drawn at once, one of which is run. Where the policy itself
  says that much can happen, it looks again soon.
- "overlap": the distance between the new chunk and the rest of the one before, at the same moments. Where the plan has
  changed, the world has, and it looks again soon. Steps that the old chunk does not reach count as disagreement.

Both are in halves of each action component's range, root mean square over components.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from kinema.core.errors import KinemaError, unknown
from kinema.core.policy import Observation, Policy
from kinema.deploy.chunking.base import Chunking, Replanning, distance, draws

Criterion = Literal["spread", "overlap"]


@dataclass(frozen=True, kw_only=True)
class Adaptive(Chunking):
    """Run between `shortest` and `longest` steps of each chunk, until `criterion` exceeds `limit`."""

    criterion: Criterion = "spread"
    """the measure of disagreement"""
    limit: float = 0.1
    """how much of it is fine, in halves of the actions' ranges"""
    shortest: int = 2
    """fewest steps run of a chunk"""
    longest: int = 8
    """most steps run of a chunk"""
    samples: int = 8
    """chunks drawn at once for the criterion spread"""

    def __post_init__(self) -> None:
        if self.criterion not in get_args(Criterion):
            raise unknown("criterion", self.criterion, get_args(Criterion))

    def wrap(self, policy: Policy) -> AdaptivePolicy:
        """Return the wrapped policy, which must draw chunks."""
        if not (np.isfinite(self.limit) and self.limit > 0.0) or self.samples < 2:
            raise KinemaError(f"limit {self.limit} must be above 0 and samples {self.samples} at least 2")
        return AdaptivePolicy(policy, self)


class AdaptivePolicy(Replanning):
    """A policy that looks again sooner where it disagrees with itself."""

    def __init__(self, policy: Policy, rule: Adaptive) -> None:
        super().__init__(policy)
        self.rule = rule
        if not 1 <= rule.shortest <= rule.longest <= self.policy.pred_horizon:
            raise KinemaError(
                f"shortest {rule.shortest} and longest {rule.longest}: expected "
                f"1 <= shortest <= longest <= {self.policy.pred_horizon}, the steps that the policy predicts"
            )

    def replan(
        self, observation: Observation, rest: Sequence[np.ndarray | None], seeds: Sequence[int]
    ) -> tuple[np.ndarray, Sequence[int]]:
        """Return new chunks, each to be run until the measure exceeds the limit."""
        count = self.rule.samples if self.rule.criterion == "spread" else 1
        chunks = draws(self.policy, observation, seeds, count)
        action = self.spec.action
        if self.rule.criterion == "spread":
            measure = np.sqrt((distance(chunks, chunks.mean(0), action) ** 2).mean(0))
        else:
            measure = np.full(chunks.shape[1:3], np.inf)
            for row, old in enumerate(rest):
                if old is not None:
                    measure[row, : len(old)] = distance(chunks[0, row, : len(old)], old, action)
        agreed = np.logical_and.accumulate(measure <= self.rule.limit, axis=1).sum(1)
        return chunks[0], np.clip(agreed, self.rule.shortest, self.rule.longest).tolist()
