"""A robot that must pass an obstacle on either side and then follow a goal that jumps: how long should chunks be run?

Time is the way: at every step the robot moves on, and its action is its displacement to the side, at most 0.1. It
crashes if it is nearer than 0.3 to the middle at steps 8 to 12. The goal, to one side, jumps to the other side between
steps 14 and 30; the robot must be there at step 38, 8 steps of full speed away. Looking seldom misses the jump; looking
always changes the robot's mind in front of the obstacle. The planner is written by hand, so nothing is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kinema.core.episode import Start
from kinema.core.policy import Chunk, ChunkSampler, Guide, Observation, Policy
from kinema.core.rng import generator
from kinema.core.spec import ActionSpec, ObservationSpec, RobotSpec, Vector
from kinema.deploy.chunking.adaptive import Adaptive
from kinema.deploy.chunking.base import Chunking
from kinema.deploy.chunking.bidirectional import Bidirectional
from kinema.deploy.chunking.receding_horizon import RecedingHorizon
from kinema.evaluation.intervals import Rate, percent
from kinema.evaluation.rollout import Trial, rollout

SPEED, HORIZON, DEADLINE = 0.1, 16, 38
OBSTACLE, NEAREST, SIDE = range(8, 13), 0.3, 0.5
GOAL, JUMPS = 0.4, range(14, 31)
SPEC = RobotSpec(
    embodiment="point",
    rate_hz=10.0,
    observation=ObservationSpec(
        vectors=(
            Vector(
                name="state", components=("episode", "step", "y", "goal"), units=("1", "1", "m", "m"), frame="world",
            ),
        )
    ),
    action=ActionSpec(
        components=("dy",), units=("m",), frame="world", kind="displacement", integrator="controller",
        low=(-SPEED,), high=(SPEED,),
    ),
)  # fmt: skip


def jump_of(episode: int) -> int:
    """Return the step at which the goal of an episode jumps."""
    return int(generator("moving goal", episode).choice(JUMPS))


class Planner(ChunkSampler):
    """Left or right at random while it is near the middle, else on the side where it is; then towards the goal."""

    spec, obs_horizon, pred_horizon, exec_horizon = SPEC, 1, HORIZON, HORIZON

    def __init__(self) -> None:
        self.looks: set[tuple[int, int]] = set()
        self.noticed: dict[int, int] = {}
        self._seeds: dict[int, np.random.Generator] = {}

    def reset(self, which: Sequence[int] | None = None, *, seeds: Sequence[int] | None = None) -> None:
        for entry, seed in zip(which or (), seeds or (), strict=True):
            self._seeds[entry] = np.random.default_rng(seed)

    def act(self, observation: Observation) -> Chunk:
        seeds = [int(self._seeds[row].integers(2**62)) for row in range(len(observation["vector.state"]))]
        return Chunk(action=self.draw(observation, seeds=seeds), exec_horizon=self.exec_horizon)

    def draw(self, observation: Observation, *, seeds: Sequence[int], guide: Guide | None = None) -> np.ndarray:
        chunks = []
        for (episode, step, y, goal), seed in zip(observation["vector.state"][:, -1], seeds, strict=True):
            self._notice(int(episode), int(step), float(goal))
            drawn = float(np.random.default_rng(seed).choice([-1.0, 1.0]))
            side = drawn if abs(y) < 0.25 else float(np.sign(y))
            rows = []
            for ahead in range(int(step), int(step) + HORIZON):
                wanted = side * SIDE if ahead < OBSTACLE.stop else goal
                move = float(np.clip(wanted - y, -SPEED, SPEED))
                y = y + move
                rows.append([move])
            chunks.append(rows)
        return np.array(chunks, np.float32)

    def check_guide(self, method: str, held: int) -> None:
        """Guides are taken and not followed: what a rule runs when is what counts here."""

    def _notice(self, episode: int, step: int, goal: float) -> None:
        self.looks.add((episode, step))
        if step >= jump_of(episode):
            self.noticed[episode] = min(step, self.noticed.get(episode, step))


@dataclass(frozen=True, kw_only=True)
class Step:
    """What `Simulator.step` returns."""

    observation: Observation
    success: np.ndarray
    done: np.ndarray
    executed: np.ndarray


class MovingGoal:
    """A batch of robots."""

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.episode, self.step_count = np.zeros(num_envs, int), np.zeros(num_envs, int)
        self.y, self.crashed = np.zeros(num_envs), np.zeros(num_envs, bool)

    def _goal(self) -> np.ndarray:
        jumped = np.array(
            [step >= jump_of(episode) for episode, step in zip(self.episode, self.step_count, strict=True)]
        )
        return np.where(self.episode % 2 == 0, GOAL, -GOAL) * np.where(jumped, -1, 1)

    def _observe(self) -> dict[str, np.ndarray]:
        state = np.stack([self.episode, self.step_count, self.y, self._goal()], -1)
        return {"vector.state": state.astype(np.float32)[:, None]}

    def _done(self) -> np.ndarray:
        return self.crashed | (self.step_count >= DEADLINE)

    def reset(self, starts: Mapping[int, Start]) -> dict[str, np.ndarray]:
        for slot, start in starts.items():
            self.episode[slot], self.step_count[slot], self.y[slot], self.crashed[slot] = start.episode, 0, 0.0, False
        return self._observe()

    def step(self, action: np.ndarray) -> Step:
        executed = np.zeros(self.num_envs, int)
        for row in range(action.shape[1]):
            live = ~self._done()
            self.y += np.where(live, np.clip(action[:, row, 0], -SPEED, SPEED), 0.0)
            self.step_count += live
            executed += live
            beside = np.isin(self.step_count, OBSTACLE) & (np.abs(self.y) < NEAREST - 1e-6)
            self.crashed |= live & beside
        arrived = ~self.crashed & (self.step_count >= DEADLINE) & (np.abs(self.y - self._goal()) < 0.05)
        return Step(observation=self._observe(), success=arrived, done=self._done(), executed=executed)


@dataclass(frozen=True, kw_only=True)
class Row:
    """Success rate, mean steps from the goal's jump to the next look, and mean looks of an episode."""

    success: float
    delay: float
    looks: float


def measure(rule: Chunking, *, episodes: int = 200, first: int = 0) -> Row:
    """Return how `rule` does over `episodes` episodes, numbered from `first`; others take the same."""
    planner = Planner()
    policy: Policy = rule.wrap(planner)
    numbers = range(first, first + episodes)
    trials = [Trial(start=Start(task="goal", seed=0, episode=e), instruction="go", variant="seen") for e in numbers]
    results = rollout(policy, MovingGoal(episodes), trials)
    delays = [step - jump_of(episode) for episode, step in planner.noticed.items() if step < DEADLINE]
    return Row(
        success=float(np.mean([result.success for result in results])),
        delay=float(np.mean(delays)),
        looks=len(planner.looks) / episodes,
    )


RULES: Mapping[str, Chunking] = {
    **{f"{steps} of 16 steps run": RecedingHorizon(exec_horizon=steps) for steps in (1, 2, 3, 6, 8, 16)},
    "adaptive, spread, 3 to 6": Adaptive(shortest=3, longest=6),
    "adaptive, overlap, 3 to 6": Adaptive(criterion="overlap", shortest=3, longest=6),
    "bidirectional, 1 step run": Bidirectional(exec_horizon=1),
}


def table(episodes: int = 200) -> str:
    """Return the rows of the table in docs/chunking.md: success with its 95 % Wilson interval, delay, looks."""
    rows = []
    for name, rule in RULES.items():
        row = measure(rule, episodes=episodes)
        rate = Rate(round(row.success * episodes), episodes)
        low, high = rate.interval()
        success = f"{percent(rate.rate)} % [{percent(low)}, {percent(high)}]"
        rows.append(f"| {name} | {success} | {row.delay:.1f} | {row.looks:.1f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
