"""Temporal ensembling: ask at every step and average all predictions made for it (Zhao et al. 2023, ACT, alg. 2).

Of n predictions for one step the i-th counts exp(-decay i). In ACT's code i = 0 is the *oldest*: with 0.01 a
prediction made 99 steps ago counts 2.69 times as much as the newest. Independent noise shrinks by sqrt(sum w^2), to
0.104 with 100 predictions; modes are averaged too, so a policy that may go left or right belongs elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from kinema.actions import poses, rotations
from kinema.core.errors import KinemaError, unknown
from kinema.core.policy import Chunk, Observation, Policy
from kinema.core.spec import ActionSpec
from kinema.deploy.chunking.base import Chunking, check_cuttable

Order = Literal["oldest_first", "newest_first"]


@dataclass(frozen=True, kw_only=True)
class Ensemble(Chunking):
    """Average over all chunks of the episode that reach this step; one action is run at a time."""

    decay: float = 0.01
    """m of the weights exp(-m i); 0 weighs all alike"""
    order: Order = "oldest_first"
    """which prediction is i = 0 and counts most; ACT takes the oldest"""

    def __post_init__(self) -> None:
        if self.order not in get_args(Order):
            raise unknown("order", self.order, get_args(Order))

    def wrap(self, policy: Policy) -> EnsemblePolicy:
        """Return the wrapped policy; rotations must be 6D columns, whose average is made orthonormal again."""
        if not (np.isfinite(self.decay) and self.decay >= 0.0):
            raise KinemaError(f"decay {self.decay}: expected 0 or more; for recent predictions, order newest_first")
        check_cuttable(policy)
        if policy.spec.action.rotation not in (None, poses.LAYOUT):
            raise KinemaError(
                f"rotations as {policy.spec.action.rotation!r} cannot be averaged by component; expected {poses.LAYOUT}"
            )
        return EnsemblePolicy(policy, self)


class EnsemblePolicy(Policy):
    """A policy that is asked at every step and remembers the chunks of as many steps as they are long."""

    def __init__(self, policy: Policy, rule: Ensemble) -> None:
        self.policy, self.rule = policy, rule
        self.spec, self.obs_horizon = policy.spec, policy.obs_horizon
        self._rotations = _rotations(policy.spec.action)
        self._past: dict[int, list[np.ndarray]] = {}

    def reset(self, which: Sequence[int] | None = None, *, seeds: Sequence[int] | None = None) -> None:
        """Forget the predictions of the entries `which`, and reset the wrapped policy."""
        self.policy.reset(which, seeds=seeds)
        for entry in list(self._past) if which is None else which:
            self._past.pop(entry, None)

    def act(self, observation: Observation) -> Chunk:
        """Return one averaged action (B, 1, A)."""
        chunks = self.policy.act(observation).action
        averaged = []
        for entry, chunk in enumerate(chunks):
            past = self._past.setdefault(entry, [])
            past.append(chunk)
            del past[: -len(chunk)]
            # A chunk drawn k steps ago predicted this step in its row k. All of them count, whatever they hold.
            predictions = np.stack([old[len(past) - 1 - place] for place, old in enumerate(past)])
            averaged.append(average(predictions, self.rule))
        action = np.stack(averaged)[:, None]
        for six in self._rotations:
            action[..., six] = rotations.columns_6d(rotations.matrix_from_columns_6d(action[..., six]))
        return Chunk(action=action.astype(np.float32), exec_horizon=1)


def average(predictions: np.ndarray, rule: Ensemble) -> np.ndarray:
    """Return the weighted mean (A,) of predictions (n, A) for one step, the oldest first."""
    weights = np.exp(-rule.decay * np.arange(len(predictions)))
    weights = weights if rule.order == "oldest_first" else weights[::-1]
    return weights @ predictions.astype(np.float64) / weights.sum()


def _rotations(action: ActionSpec) -> list[slice]:
    """Return where the 6D columns of each hand are, by the names of their components: "r11" or "left r11"."""
    if action.rotation is None:
        return []
    names = poses.COMPONENTS[3:]
    firsts = [
        first
        for first in range(action.width - len(names) + 1)
        if all(name.endswith(six) for name, six in zip(action.components[first:], names, strict=False))
    ]
    if not firsts:
        raise KinemaError(f"rotations in 6D, but no components {', '.join(names)} in {', '.join(action.components)}")
    return [slice(first, first + len(names)) for first in firsts]
