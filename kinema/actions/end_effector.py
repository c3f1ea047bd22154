"""Action spaces of the end effector, called hand: absolute, relative to one pose a chunk, and step by step.

"Relative" is UMI's: T_start⁻¹ T_k with one base for the whole chunk (Chi et al. 2024, arXiv 2402.10329). A delta is
T_{k-1} to T_k: its errors add up, the errors of relative poses do not. UMI's code has a world-frame difference called
"delta" and another one called "rel", marked as legacy; neither is meant here.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kinema.actions import poses, rotations
from kinema.actions.spaces import Space
from kinema.core.errors import KinemaError

HAND = "hand"
"""The frame that moves along: axes of the hand as it was one step before."""
CHUNK_START = "hand at the start of the chunk"


@dataclass(frozen=True, kw_only=True)
class EndEffectorSpace(Space):
    """Poses of the hand, the end effector, in `frame`."""

    frame: str

    components: ClassVar[tuple[str, ...]] = poses.COMPONENTS
    units: ClassVar[tuple[str, ...]] = poses.UNITS
    rotation: ClassVar[str | None] = poses.LAYOUT

    @property
    def layout(self) -> tuple[tuple[str, ...], tuple[str, ...], str]:
        """The numbers of a pose or step, their units, and the frame."""
        return self.components, self.units, self.frame

    @abstractmethod
    def to_poses(self, values: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return the target poses (H, 4, 4) in the arm's frame that `values` (H, A) lead to from a pose (4, 4)."""

    @abstractmethod
    def from_poses(self, targets: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return the values (H, A) that lead through target poses (H, 4, 4) from a pose (4, 4)."""


@dataclass(frozen=True, kw_only=True)
class EndEffectorPose(EndEffectorSpace):
    """Where the hand is to be in a fixed frame: position [m] and 6D columns; nobody integrates."""

    kind: ClassVar[str] = "end-effector pose"

    def to_poses(self, values: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return the poses that the values spell."""
        return poses.from_vector(values)

    def from_poses(self, targets: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return the poses spelt out."""
        return poses.to_vector(targets)


@dataclass(frozen=True, kw_only=True)
class EndEffectorRelative(EndEffectorSpace):
    """Where the hand is to be as seen from its pose at the start of the chunk: UMI's relative; nobody integrates."""

    frame: str = CHUNK_START

    kind: ClassVar[str] = "end-effector relative pose"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frame != CHUNK_START:
            raise KinemaError(f"{self.kind} in frame {self.frame!r}, but its frame is the {CHUNK_START!r}")

    def to_poses(self, values: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return the poses after the one base pose."""
        return poses.decode_relative(start, values)

    def from_poses(self, targets: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return the targets seen from the one base pose."""
        return poses.encode_relative(start, targets)


@dataclass(frozen=True, kw_only=True)
class EndEffectorDelta(EndEffectorSpace):
    """How far the hand moves in one period: translation [m], rotation vector [rad]; the controller composes the steps.

    In a fixed frame the axes stay, and the hand turns about its own origin. In `HAND` they are those of the hand one
    step before. Each step is taken from the last commanded pose, not the measured one, so that lag does not add up: the
    pose from which `to_poses` and `from_poses` begin must be the last commanded one too.
    """

    kind: ClassVar[str] = "end-effector delta pose"
    integrator: ClassVar[str] = "controller, from the last commanded pose"
    integrates: ClassVar[bool] = True
    components: ClassVar[tuple[str, ...]] = ("dx", "dy", "dz", "drx", "dry", "drz")
    units: ClassVar[tuple[str, ...]] = ("m",) * 3 + ("rad",) * 3
    rotation: ClassVar[str | None] = "rotation vector"

    def to_poses(self, values: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return the start moved step by step."""
        made, now = [], start
        for move, turn in zip(values[:, :3], rotations.exp(values[:, 3:]), strict=True):
            if self.frame == HAND:
                now = now @ poses.pose(move, turn)
            else:
                now = poses.pose(now[:3, 3] + move, turn @ now[:3, :3])
            made.append(now)
        return np.stack(made)

    def from_poses(self, targets: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return the steps between one target and the next."""
        before = np.concatenate([start[None], targets[:-1]])
        if self.frame == HAND:
            steps = poses.compose(poses.inverse(before), targets)
            moves, turns = steps[:, :3, 3], steps[:, :3, :3]
        else:
            moves = targets[:, :3, 3] - before[:, :3, 3]
            turns = targets[:, :3, :3] @ np.swapaxes(before[:, :3, :3], -1, -2)
        return np.concatenate([moves, rotations.log(turns)], axis=-1)
