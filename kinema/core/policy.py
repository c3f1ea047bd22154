"""The robot's side of a policy: numpy in, numpy out, with a leading batch axis."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kinema.core.spec import RobotSpec

Observation = Mapping[str, Any]
"""`image.<camera>` (B, T, Hi, Wi, 3) uint8, `vector.<name>` (B, T, D) float32, `instruction` a sequence of B texts;
T = `obs_horizon`, the newest step last."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Predicted actions (B, H, A) float32 in the units of the policy's ActionSpec.

    The first `exec_horizon` are meant to be run.
    """

    action: np.ndarray
    exec_horizon: int


class Policy(ABC):
    """Maps a batch of observations to a batch of action chunks; a robot is a batch of one.

    Wrappers (ensembling, real-time chunking, a guard, a remote server) hold a Policy and are a Policy.
    """

    spec: RobotSpec
    obs_horizon: int

    @abstractmethod
    def reset(self, which: Sequence[int] | None = None, *, seeds: Sequence[int] | None = None) -> None:
        """Forget the episode state of the batch entries `which` (all when None).

        `seeds`, one per entry of `which`, fix the randomness of the episodes that begin, whatever else is in the batch.
        """

    @abstractmethod
    def act(self, observation: Observation) -> Chunk:
        """Return a chunk of actions for each batch entry; raises SpecMismatch when one does not fit `spec`."""
