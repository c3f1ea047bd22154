"""The robot's side of a policy: numpy in, numpy out, with a leading batch axis."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from kinema.core.errors import KinemaError, unknown
from kinema.core.spec import RobotSpec

Method = Literal["guided", "inpaint"]
Observation = Mapping[str, Any]
"""`image.<camera>` (B, T, Hi, Wi, 3) uint8, `vector.<name>` (B, T, D) float32, `instruction` a sequence of B texts;
T = `obs_horizon`, the newest step last."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Predicted actions (B, H, A) float32 in the units of the policy's ActionSpec.

    Whoever asks runs the first `exec_horizon` of them in every batch entry, then asks again; an episode may end
    between. A policy counts the steps of its episodes by this.
    """

    action: np.ndarray
    exec_horizon: int


@dataclass(frozen=True, kw_only=True)
class Guide:
    """What the first steps of a new chunk should agree with: the rest of the chunk that is being executed.

    `action` (B, H, A) begins at the step of the observation, `weight` (H,) in [0, 1] says how much each step counts:
    1 is executed before the new chunk can be, 0 is free. On the robot's side these are arrays in robot units, for a
    head tensors in its own normalised space. "guided" pulls softly, by at most `limit`; "inpaint" holds the steps of
    weight 1 and ignores the others.
    """

    action: Any
    weight: Any
    method: Method = "guided"
    limit: float = 5.0

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise unknown("method of a guide", self.method, get_args(Method))


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


class ChunkSampler(Policy):
    """A Policy that keeps nothing between calls but its noise, so chunks can be drawn for any observations and seeds.

    `act` gives `exec_horizon` of `pred_horizon` steps to be run.
    """

    pred_horizon: int
    exec_horizon: int

    @abstractmethod
    def draw(self, observation: Observation, *, seeds: Sequence[int], guide: Guide | None = None) -> np.ndarray:
        """Return a chunk (B, `pred_horizon`, A) float32 for each row: a function of the row, its seed and the guide.

        Leaves the episodes of `act` alone. Raises KinemaError for a guide that `check_guide` refuses.
        """

    def check_guide(self, method: str, held: int) -> None:
        """Raise KinemaError unless `draw` follows guides of `method` whose first `held` steps weigh 1."""
        raise KinemaError(f"{type(self).__name__} cannot follow a guide, which real-time chunking needs")
