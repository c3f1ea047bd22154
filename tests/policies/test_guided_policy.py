"""A guide reaches the head through the policy's transforms: seen from the new observation, in normalised space."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from kinema.actions import poses, rotations
from kinema.core.errors import KinemaError, SpecMismatch
from kinema.core.policy import Guide
from kinema.core.spec import ActionSpec, ObservationSpec, RobotSpec, Vector
from kinema.deploy.chunking.realtime_chunking import RealtimeChunking
from kinema.heads.flow import Flow
from kinema.heads.regression import Regression
from kinema.nets.denoisers.mlp import Mlp
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.trunks.fusion import Fusion
from kinema.policies.base import ComposedPolicy, PolicyConfig
from kinema.policies.network import Network
from kinema.transforms.normalise import Normalise
from kinema.transforms.relative_action import RelativeAction

HORIZON = 8
HAND = Vector(name="hand", components=poses.COMPONENTS, units=poses.UNITS, frame="world", rotation=poses.LAYOUT)
SPEC = RobotSpec(
    embodiment="hand",
    rate_hz=10.0,
    observation=ObservationSpec(vectors=(HAND,)),
    action=ActionSpec(
        components=(*poses.COMPONENTS, "width"), units=(*poses.UNITS, "m"), frame="world", kind="pose",
        integrator="controller", low=(-10.0,) * 10, high=(10.0,) * 10, rotation=poses.LAYOUT,
    ),
)  # fmt: skip


def hand_at(rng: np.random.Generator) -> np.ndarray:
    """Return an observation of a hand somewhere: (1, 1, 9) float32."""
    pose = poses.pose(rng.normal(size=3), rotations.exp(rng.normal(size=3)))
    return poses.to_vector(pose).astype(np.float32)[None, None]


def targets(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return chunks (count, H, 10) of absolute targets with a gripper width."""
    made = poses.pose(rng.normal(size=(count, HORIZON, 3)), rotations.exp(rng.normal(size=(count, HORIZON, 3))))
    return np.concatenate([poses.to_vector(made), rng.normal(size=(count, HORIZON, 1))], -1).astype(np.float32)


def policy_of(head=None, relative: bool = True) -> ComposedPolicy:
    rng = np.random.default_rng(0)
    statistics = {
        key: {"mean": rng.normal(size=width), "std": rng.uniform(0.5, 2.0, width)}
        for key, width in (("vector.hand", 9), ("action", 10))
    }
    normalise = Normalise(modes={"action": "mean_std", "vector.hand": "mean_std"}, statistics=statistics)
    config = PolicyConfig(
        encoders={"hand": Proprioception(vector="hand", hidden=8)},
        trunk=Fusion(blocks=1),
        head=head or Flow(denoiser=Mlp(hidden=16, blocks=1), prefix=3),
        transforms=(RelativeAction(pose="hand"), normalise) if relative else (normalise,),
        width=8,
        pred_horizon=HORIZON,
        exec_horizon=4,
    )
    torch.manual_seed(0)
    return ComposedPolicy(config, SPEC, Network(config, SPEC))


WEIGHT = np.array([1, 1, 1, 0, 0, 0, 0, 0], np.float32)


def test_a_re_anchored_prefix_hits_the_same_absolute_targets() -> None:
    rng = np.random.default_rng(1)
    policy, old = policy_of(), targets(rng, 1)
    guide = Guide(action=old, weight=WEIGHT, method="inpaint")
    for _ in range(5):  # wherever the robot has moved meanwhile
        chunk = policy.draw({"vector.hand": hand_at(rng)}, seeds=[0], guide=guide)
        np.testing.assert_allclose(chunk[:, :3], old[:, :3], atol=1e-6)


def test_without_re_anchoring_it_is_off_by_what_the_robot_moved() -> None:
    """The wrong way: what the head had made is handed to it again, relative to a pose where the robot no longer is."""
    rng = np.random.default_rng(2)
    policy = policy_of()
    before, after = hand_at(rng), hand_at(rng)
    old = targets(rng, 1)
    chain = policy._chain
    stale = chain.forward({"vector.hand": before, "action": old})[0]["action"]
    wrong = chain.inverse(stale, chain.forward({"vector.hand": after})[1])
    moved = poses.compose(poses.from_vector(after[0, 0]), poses.inverse(poses.from_vector(before[0, 0])))
    expected = poses.compose(moved, poses.from_vector(old[0, :, :9]))
    np.testing.assert_allclose(wrong[0, :, :9], poses.to_vector(expected), atol=1e-5)
    assert np.abs(wrong - old)[..., :3].max() > 0.5
    fresh = chain.forward({"vector.hand": after, "action": old})
    np.testing.assert_allclose(chain.inverse(fresh[0]["action"], fresh[1]), old, atol=1e-6)


@pytest.mark.parametrize("method", ["guided", "inpaint"])
def test_real_time_chunking_joins_chunks_of_a_moving_robot(method: str) -> None:
    rng = np.random.default_rng(3)
    inner = policy_of()
    policy = RealtimeChunking(delay=2, exec_horizon=4, method=method).wrap(inner)
    first = policy.act({"vector.hand": np.concatenate([hand_at(rng) for _ in range(3)])})
    rest = [plan.action for plan in policy._plans.values()]
    second = policy.act({"vector.hand": np.concatenate([hand_at(rng) for _ in range(3)])})
    assert first.action.shape == (3, 4, 10) and first.exec_horizon == second.exec_horizon == 4
    np.testing.assert_array_equal(second.action[:, :2], np.stack(rest)[:, :2])


def test_guidance_pulls_towards_the_old_chunk() -> None:
    rng = np.random.default_rng(4)
    policy, old = policy_of(relative=False), targets(rng, 1)
    observation = {"vector.hand": hand_at(rng)}
    plain = policy.draw(observation, seeds=[7])
    pulled = policy.draw(observation, seeds=[7], guide=Guide(action=old, weight=WEIGHT))
    free = policy.draw(observation, seeds=[7], guide=Guide(action=old, weight=np.zeros(HORIZON, np.float32)))
    width = slice(9, 10)  # the others are bound to be rotations
    assert np.abs(pulled - old)[:, :3, width].mean() < 0.3 * np.abs(plain - old)[:, :3, width].mean()
    np.testing.assert_array_equal(free, plain)


def test_draw_is_a_function_of_its_seeds_and_leaves_episodes_alone() -> None:
    rng = np.random.default_rng(5)
    policy = policy_of()
    observation = {"vector.hand": np.concatenate([hand_at(rng) for _ in range(3)])}
    policy.reset([0, 1, 2], seeds=[10, 11, 12])
    drawn = policy.draw(observation, seeds=[10, 11, 12])
    acted = policy.act(observation).action
    np.testing.assert_array_equal(acted, drawn)
    rows = {"vector.hand": observation["vector.hand"][[2, 0]]}
    np.testing.assert_allclose(policy.draw(rows, seeds=[12, 10]), drawn[[2, 0]], atol=1e-5)
    with pytest.raises(KinemaError, match="2 seeds for 3 batch entries"):
        policy.draw(observation, seeds=[1, 2])


def test_a_head_that_cannot_be_guided_says_so() -> None:
    rng = np.random.default_rng(6)
    policy = policy_of(head=Regression())
    guide = Guide(action=targets(rng, 1), weight=WEIGHT)
    with pytest.raises(KinemaError, match="RegressionHead cannot follow a guide"):
        policy.draw({"vector.hand": hand_at(rng)}, seeds=[0], guide=guide)
    flow = policy_of(head=replace(Flow(), prefix=0))
    with pytest.raises(KinemaError, match="3 steps are to be held, but training gave at most 0"):
        flow.draw({"vector.hand": hand_at(rng)}, seeds=[0], guide=replace(guide, method="inpaint"))


def test_a_pose_in_another_frame_than_the_actions_is_refused_before_anything_is_built() -> None:
    elsewhere = replace(SPEC, action=replace(SPEC.action, frame="base"))
    with pytest.raises(SpecMismatch, match="frame 'base', not 'world'"):
        Network(policy_of().config, elsewhere)
