"""Bidirectional decoding: of several chunks run the one that continues the last (Liu et al. 2024, arXiv 2408.17355).

Backward coherence is the distance to the rest of the chunk before, rho^(k+1) for the k-th step from now. Forward
contrast prefers what other chunks of this policy resemble and those of a weaker one (an earlier checkpoint) do not.
The chunk with the smallest coherence + contrast weight x contrast is run; with both at 0 it is any one, as without the
rule. Keeps a mode without guiding the head, at the cost of `samples` draws at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kinema.core.errors import KinemaError
from kinema.core.policy import ChunkSampler, Observation, Policy
from kinema.deploy.chunking.base import Chunking, Replanning, distance, draws


@dataclass(frozen=True, kw_only=True)
class Bidirectional(Chunking):
    """Choose among `samples` chunks, every `exec_horizon` steps."""

    samples: int = 16
    """chunks drawn at once"""
    exec_horizon: int = 8
    """steps run of each chunk"""
    decay: float = 0.5
    """rho: how fast later steps count less; 0 leaves coherence out"""
    contrast: float = 0.0
    """lambda: how much forward contrast counts; above 0 it needs a weaker policy"""

    def wrap(self, policy: Policy, *, weak: ChunkSampler | None = None) -> BidirectionalPolicy:
        """Return the wrapped policy, which must draw chunks; `weak` is what it is contrasted with."""
        if not 0.0 <= self.decay <= 1.0 or self.samples < 2 or not (np.isfinite(self.contrast) and self.contrast >= 0):
            raise KinemaError(
                f"decay {self.decay} must lie in [0, 1], samples {self.samples} be at least 2 "
                f"and contrast {self.contrast} 0 or more"
            )
        if (weak is None) != (self.contrast == 0.0):
            raise KinemaError(f"contrast {self.contrast}: above 0 it needs a weaker policy, at 0 it takes none")
        return BidirectionalPolicy(policy, self, weak)


class BidirectionalPolicy(Replanning):
    """A policy that chooses among several chunks of its own."""

    def __init__(self, policy: Policy, rule: Bidirectional, weak: ChunkSampler | None) -> None:
        super().__init__(policy)
        self.rule, self.weak = rule, weak
        horizon = self.policy.pred_horizon
        if not 1 <= rule.exec_horizon <= horizon:
            raise KinemaError(f"exec_horizon {rule.exec_horizon}: expected 1 to {horizon}, the predicted steps")
        if weak is not None and (weak.spec != self.spec or weak.pred_horizon != horizon):
            raise KinemaError("the weaker policy has another interface or pred_horizon than the one it is to contrast")

    def replan(
        self, observation: Observation, rest: Sequence[np.ndarray | None], seeds: Sequence[int]
    ) -> tuple[np.ndarray, Sequence[int]]:
        """Return of each row's samples the one with the smallest score, the first where several have it."""
        chunks = draws(self.policy, observation, seeds, self.rule.samples)
        score = np.zeros(chunks.shape[:2])
        for row, old in enumerate(rest):
            if old is not None:
                apart = distance(chunks[:, row, : len(old)], old, self.spec.action)
                score[:, row] = apart**2 @ self.rule.decay ** np.arange(1.0, len(old) + 1)
        if self.weak is not None:
            weak = draws(self.weak, observation, seeds, self.rule.samples)
            score += self.rule.contrast * (self._mean_distance(chunks, chunks) - self._mean_distance(chunks, weak))
        return chunks[score.argmin(0), np.arange(len(seeds))], [self.rule.exec_horizon] * len(seeds)

    def _mean_distance(self, chunks: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Return the mean squared distance (samples, n) of each chunk to `others`, summed over its steps."""
        apart = distance(chunks[:, None], others[None], self.spec.action)
        return (apart**2).sum(-1).mean(1)
