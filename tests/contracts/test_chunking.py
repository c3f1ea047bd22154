"""What every rule for executing chunks must do, discovered by its being there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinema.core.config import from_data, to_data
from kinema.core.episode import Start
from kinema.core.names import PACKAGES, find, members
from kinema.core.policy import Policy
from kinema.deploy.chunking.base import Chunking
from kinema.evaluation.rollout import Trial, rollout

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from moving_goal import MovingGoal, Planner

PLANTED = '''"""Runs all of a chunk; the faulty one draws noise that knows no episodes."""
from dataclasses import dataclass
import numpy as np
from kinema.core.policy import Chunk, Policy
from kinema.deploy.chunking.base import Chunking

@dataclass(frozen=True, kw_only=True)
class Planted(Chunking):
    shared_noise: bool = False
    def wrap(self, policy):
        return PlantedPolicy(policy, self)

class PlantedPolicy(Policy):
    def __init__(self, policy, rule):
        self.policy, self.spec, self.obs_horizon = policy, policy.spec, policy.obs_horizon
        self.noise = np.random.default_rng(0) if rule.shared_noise else None
    def reset(self, which=None, *, seeds=None):
        self.policy.reset(which, seeds=seeds)
    def act(self, observation):
        chunk = self.policy.act(observation)
        if self.noise is None:
            return chunk
        moved = chunk.action + 0.01 * self.noise.normal(size=chunk.action.shape)
        return Chunk(action=moved.astype(np.float32), exec_horizon=chunk.exec_horizon)
'''


def executed(policy: Policy, num_envs: int, episodes: int = 7) -> list[np.ndarray]:
    """Return what is executed in each episode when `num_envs` run at once."""
    trials = [
        Trial(start=Start(task="goal", seed=0, episode=e), instruction="go", variant="seen") for e in range(episodes)
    ]
    return [result.actions for result in rollout(policy, MovingGoal(num_envs), trials)]


def check_wraps_a_policy_and_is_one(rule: Chunking) -> None:
    inner = Planner()
    policy = rule.wrap(inner)
    assert isinstance(policy, Policy) and not isinstance(policy, Planner)
    assert policy.spec == inner.spec and policy.obs_horizon == inner.obs_horizon


def check_episodes_do_not_depend_on_the_batch(rule: Chunking) -> None:
    alone = executed(rule.wrap(Planner()), 1)
    for num_envs in (3, 7):
        together = executed(rule.wrap(Planner()), num_envs)
        assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True)), "an episode knows its batch"


def check_an_episode_repeats(rule: Chunking) -> None:
    policy = rule.wrap(Planner())
    first, second = executed(policy, 3), executed(policy, 3)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True)), "a reset leaves something behind"


def check_actions_are_those_of_a_policy(rule: Chunking) -> None:
    for actions in executed(rule.wrap(Planner()), 7):
        assert actions.dtype == np.float32 and np.isfinite(actions).all()
        assert (np.abs(actions) <= 0.1 + 1e-6).all(), "actions leave the bounds of the policy's own"


def check_the_observation_stays_as_it_is(rule: Chunking) -> None:
    policy = rule.wrap(Planner())
    state = np.zeros((2, 1, 4), np.float32)
    policy.reset([0, 1], seeds=[3, 4])
    policy.act({"vector.state": state})
    assert (state == 0).all()


def check_configuration_round_trip(rule: Chunking) -> None:
    assert from_data(to_data(rule)) == rule


CHECKS = [value for name, value in sorted(globals().items()) if name.startswith("check_")]


@pytest.mark.parametrize("name", members("chunking"))
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_chunking(check: Callable[[Chunking], None], name: str, configure: Callable[[str, str], Any]) -> None:
    rule = configure("chunking", name)
    assert isinstance(rule, Chunking)
    check(rule)


def test_a_planted_rule_is_discovered_and_its_fault_found(plant: Callable[[str, str, str], None]) -> None:
    plant("chunking", "planted", PLANTED)
    planted = find("chunking", "planted")
    for check in CHECKS:
        check(planted())
    with pytest.raises(AssertionError, match="an episode knows its batch"):
        check_episodes_do_not_depend_on_the_batch(planted(shared_noise=True))
    with pytest.raises(AssertionError, match="a reset leaves something behind"):
        check_an_episode_repeats(planted(shared_noise=True))


def test_rules_run_on_a_robot_without_torch() -> None:
    imports = "\n".join(f"import {PACKAGES['chunking']}.{name.replace('-', '_')}" for name in members("chunking"))
    code = f"{imports}\nimport kinema.deploy.asynchronous, sys\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
