"""Policies whose chunks are known beforehand, and the fixtures of `benchmarks`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from kinema.core.policy import Chunk, ChunkSampler, Guide, Observation, Policy
from kinema.core.spec import ActionSpec, ObservationSpec, RobotSpec, Vector

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
GOLDENS = Path(__file__).resolve().parents[2] / "goldens" / "chunking" / "lerobot.npz"


@pytest.fixture(scope="session", autouse=True)
def benchmarks_in_reach() -> Iterator[None]:
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="session")
def lerobot() -> dict[str, np.ndarray]:
    """What LeRobot did with the same chunks."""
    with np.load(GOLDENS, allow_pickle=False) as stored:
        return dict(stored)


def spec(width: int = 2, high: float = 1000.0) -> RobotSpec:
    """A robot that observes two numbers, mostly the step, within bounds far from what the tests use."""
    names = tuple("abcdefgh"[:width])
    return RobotSpec(
        embodiment="test",
        rate_hz=10.0,
        observation=ObservationSpec(
            vectors=(Vector(name="state", components=("step", "x"), units=("1", "m"), frame="world"),)
        ),
        action=ActionSpec(
            components=names, units=("1",) * width, frame="world", kind="test", integrator="test",
            low=(-high,) * width, high=(high,) * width,
        ),
    )  # fmt: skip


class Scripted(ChunkSampler):
    """Gives `chunk(step, entry, seed) -> (H, A)`, where `step` is the observed one; notes seeds and guides."""

    guidable = True

    def __init__(self, chunk: Callable[[int, int, int], np.ndarray], *, width: int = 2, obs_horizon: int = 1) -> None:
        self.chunk = chunk
        self.spec, self.obs_horizon = spec(width), obs_horizon
        self.pred_horizon = self.exec_horizon = len(chunk(0, 0, 0))
        self.asked: list[list[int]] = []
        self.guides: list[Guide | None] = []
        self.seeds: list[int] = []
        self.resets: list[tuple[object, object]] = []

    def reset(self, which: Sequence[int] | None = None, *, seeds: Sequence[int] | None = None) -> None:
        self.resets.append((which, seeds))

    def act(self, observation: Observation) -> Chunk:
        action = self.draw(observation, seeds=[0] * len(observation["vector.state"]))
        return Chunk(action=action, exec_horizon=self.exec_horizon)

    def draw(self, observation: Observation, *, seeds: Sequence[int], guide: Guide | None = None) -> np.ndarray:
        states = observation["vector.state"][:, -1]
        self.asked.append([int(step) for step, _ in states])
        self.guides.append(guide)
        self.seeds.extend(seeds)
        pairs = zip(states, seeds, strict=True)
        return np.stack([self.chunk(int(state[0]), int(state[1]), seed) for state, seed in pairs]).astype(np.float32)

    def check_guide(self, method: str, held: int) -> None:
        if not self.guidable:
            super().check_guide(method, held)


@pytest.fixture(scope="session")
def scripted() -> type[Scripted]:
    return Scripted


@pytest.fixture(scope="session")
def labelled() -> Callable[[int], Callable[[int, int, int], np.ndarray]]:
    """`labelled(H)` makes chunks (H, 2) whose rows say at which step they were asked for, and their index."""
    return lambda horizon: lambda step, entry, seed: np.stack([np.full(horizon, step), np.arange(horizon)], -1)


@pytest.fixture(scope="session")
def execute() -> Callable[..., np.ndarray]:
    """`execute(policy, steps, batch)` runs as every caller does and returns the actions (steps, B, A)."""

    def run(policy: Policy, steps: int, batch: int = 1, begins: Sequence[int] | None = None) -> np.ndarray:
        done: list[np.ndarray] = []
        begins = list(begins or [0] * batch)
        while len(done) < steps:
            state = np.array([[[len(done) - first, entry]] for entry, first in enumerate(begins)], np.float32)
            chunk = policy.act({"vector.state": np.repeat(state, policy.obs_horizon, axis=1)})
            assert chunk.action.shape[0] == batch
            assert 1 <= chunk.exec_horizon <= chunk.action.shape[1]
            done += list(chunk.action[:, : chunk.exec_horizon].transpose(1, 0, 2))
        return np.stack(done[:steps])

    return run
