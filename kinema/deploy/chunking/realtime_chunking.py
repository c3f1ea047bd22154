"""Real-time chunking: the next chunk is drawn while this one runs, and made to continue it (Black et al. 2025).

The robot does not wait: of every new chunk the first `delay` actions come too late, and what is left of the old one is
run in their place. A new chunk that knows this must agree with the old one there, or the motion jumps where they meet.
"guided" pulls the flow towards the old chunk (arXiv 2506.07339), "inpaint" holds its first actions fixed, which a head
trained for it does best (arXiv 2512.05964), "none" is the jump, for comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from kinema.core.errors import KinemaError, unknown
from kinema.core.policy import Guide, Observation, Policy
from kinema.deploy.chunking.base import Chunking, Replanning, take

Agreement = Literal["guided", "inpaint", "none"]


@dataclass(frozen=True, kw_only=True)
class RealtimeChunking(Chunking):
    """Draw every `exec_horizon` (s) steps; the chunk arrives `delay` (d) steps later: d <= s <= H - d.

    The old chunk's H - s remaining actions weigh 1 for the first d and fall to 0 from there. (In LeRobot
    `execution_horizon` is where the weights end, H - s.)
    """

    delay: int = 2
    """steps that pass while a chunk is drawn"""
    exec_horizon: int = 8
    """steps from one draw to the next"""
    method: Agreement = "guided"
    """how a new chunk is made to agree with the old one"""
    limit: float = 5.0
    """largest guidance weight (beta) of the method guided"""

    def __post_init__(self) -> None:
        if self.method not in get_args(Agreement):
            raise unknown("method of agreement", self.method, get_args(Agreement))

    def wrap(self, policy: Policy) -> RealtimeChunkingPolicy:
        """Return the wrapped policy, which must draw chunks and, unless the method is "none", follow a guide."""
        if not (np.isfinite(self.limit) and self.limit > 0.0):
            raise KinemaError(f"limit {self.limit}: a guidance weight is finite and above 0; 5 is usual")
        return RealtimeChunkingPolicy(policy, self)


class RealtimeChunkingPolicy(Replanning):
    """A policy as it acts when drawing a chunk takes `delay` steps."""

    def __init__(self, policy: Policy, rule: RealtimeChunking) -> None:
        super().__init__(policy)
        self.rule = rule
        self.weight = prefix_weights(self.policy.pred_horizon, rule.delay, rule.exec_horizon)
        if rule.method == "inpaint":
            self.weight = np.floor(self.weight)
        if rule.method != "none":
            self.policy.check_guide(rule.method, rule.delay)

    def replan(
        self, observation: Observation, rest: Sequence[np.ndarray | None], seeds: Sequence[int]
    ) -> tuple[np.ndarray, Sequence[int]]:
        """Return chunks that begin with `delay` actions of the old ones; the first of an episode is there at once."""
        width = self.spec.action.width
        chunks = np.empty((len(seeds), self.policy.pred_horizon, width), np.float32)
        begun = [row for row, old in enumerate(rest) if old is not None and len(old)]
        for rows in (begun, [row for row in range(len(seeds)) if row not in begun]):
            if rows:
                olds = [old for row in rows if (old := rest[row]) is not None]
                own = [seeds[row] for row in rows]
                chunks[rows] = self.policy.draw(take(observation, rows), seeds=own, guide=self._guide(olds))
                for row, old in zip(rows, olds, strict=False):
                    chunks[row, : self.rule.delay] = old[: self.rule.delay]
        return chunks, [self.rule.exec_horizon] * len(seeds)

    def _guide(self, olds: Sequence[np.ndarray]) -> Guide | None:
        if not olds or self.rule.method == "none":
            return None
        # What the old chunk does not reach weighs nothing; its last action stands there, so that every row is one.
        missing = self.policy.pred_horizon - len(olds[0])
        action = np.stack([np.concatenate([old, np.repeat(old[-1:], missing, axis=0)]) for old in olds])
        return Guide(action=action, weight=self.weight, method=self.rule.method, limit=self.rule.limit)


def prefix_weights(horizon: int, delay: int, exec_horizon: int) -> np.ndarray:
    """Return how much each of `horizon` (H) steps of the old chunk counts (H,): eq. 5 of arXiv 2506.07339.

    1 for i < d; c (e^c - 1) / (e - 1) with c = (H - s - i) / (H - s - d + 1) for d <= i < H - s; then 0.
    """
    if not 0 <= delay <= exec_horizon <= horizon - delay or exec_horizon < 1:
        raise KinemaError(
            f"delay {delay} and exec_horizon {exec_horizon} do not fit a chunk of {horizon} steps: expected "
            f"0 <= delay <= exec_horizon <= {horizon} - delay, and exec_horizon of at least 1"
        )
    end, step = horizon - exec_horizon, np.arange(horizon)
    c = np.clip((end - step) / (end - delay + 1), 0.0, 1.0)
    return np.where(step < delay, 1.0, c * np.expm1(c) / (np.e - 1.0)).astype(np.float32)
