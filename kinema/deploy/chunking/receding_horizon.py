"""Receding horizon: run the first few actions of each chunk, then look again (Chi et al. 2023, Diffusion Policy).

Short horizons react soon but may change their mind at every look; long ones are steady and act on old observations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from kinema.core.errors import KinemaError, unknown
from kinema.core.policy import Chunk, ChunkSampler, Observation, Policy
from kinema.deploy.chunking.base import Chunking, check_cuttable

Begin = Literal["newest", "oldest"]


@dataclass(frozen=True, kw_only=True)
class RecedingHorizon(Chunking):
    """Run `exec_horizon` (T_a) actions of every chunk.

    A policy of kinema predicts from the newest observed step on. Diffusion Policy predicts from the oldest of its T_o
    observed steps, and runs the indices T_o - 1 to T_o - 2 + T_a: 1 to 8 of 16 with two observed steps.
    """

    exec_horizon: int = 8
    """actions of each chunk that are run"""
    begins: Begin = "newest"
    """observed step at which the policy's chunks begin; "oldest" is the convention of Diffusion Policy"""

    def __post_init__(self) -> None:
        if self.begins not in get_args(Begin):
            raise unknown("begin of chunks", self.begins, get_args(Begin))

    def wrap(self, policy: Policy) -> RecedingHorizonPolicy:
        """Return the wrapped policy."""
        if self.exec_horizon < 1:
            raise KinemaError(f"exec_horizon {self.exec_horizon}: expected at least 1")
        check_cuttable(policy)
        if isinstance(policy, ChunkSampler):
            self.rest(np.zeros((1, policy.pred_horizon, 1)), policy.obs_horizon)
        return RecedingHorizonPolicy(policy, self)

    def rest(self, action: np.ndarray, obs_horizon: int) -> np.ndarray:
        """Return the actions (B, H, A) from the newest observed step on; raises KinemaError when they are too few."""
        left = action[:, obs_horizon - 1 :] if self.begins == "oldest" else action
        if self.exec_horizon > left.shape[1]:
            raise KinemaError(
                f"exec_horizon {self.exec_horizon} is more than the {left.shape[1]} actions that the policy predicts"
            )
        return left


class RecedingHorizonPolicy(Policy):
    """A policy whose chunks are cut."""

    def __init__(self, policy: Policy, rule: RecedingHorizon) -> None:
        self.policy, self.rule = policy, rule
        self.spec, self.obs_horizon = policy.spec, policy.obs_horizon

    def reset(self, which: Sequence[int] | None = None, *, seeds: Sequence[int] | None = None) -> None:
        """Reset the wrapped policy."""
        self.policy.reset(which, seeds=seeds)

    def act(self, observation: Observation) -> Chunk:
        """Return the wrapped policy's chunk from the newest observed step on, `exec_horizon` of it to be run."""
        chunk = self.policy.act(observation)
        action = self.rule.rest(chunk.action, self.obs_horizon)
        return replace(chunk, action=action, exec_horizon=self.rule.exec_horizon)
