"""BC-RNN-GMM and implicit BC as wholes: a cue that must be remembered, a jump that must not be smoothed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kinema.core.errors import KinemaError
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.heads.energy import Energy
from kinema.heads.regression import Regression
from kinema.nets.trunks.fusion import Fusion
from kinema.policies.base import PolicyConfig
from kinema.policies.bc_rnn import bc_rnn
from kinema.policies.implicit_bc import implicit_bc
from kinema.policies.network import Network


def robot_of(state: int, actions: int = 1, *, camera: int | None = None) -> RobotSpec:
    observation = ObservationSpec(
        cameras=() if camera is None else (Camera(name="front", height=camera, width=camera),),
        vectors=(Vector(name="state", components=tuple("abcdefghijk"[:state]), units=("1",) * state, frame="none"),),
    )
    action = ActionSpec(
        components=tuple(f"a{index}" for index in range(actions)), units=("m",) * actions, frame="world", kind="delta",
        integrator="c", low=(-1.0,) * actions, high=(1.0,) * actions,
    )  # fmt: skip
    return RobotSpec(embodiment="toy", rate_hz=20.0, observation=observation, action=action)


def network_of(config: PolicyConfig, robot: RobotSpec) -> Network:
    torch.manual_seed(0)
    return Network(config, config.needs(robot))


def learn(network: Network, batch: object, *, steps: int, lr: float) -> None:
    optimiser, rng = torch.optim.Adam(network.parameters(), lr=lr), torch.Generator().manual_seed(0)
    network.train()
    for step in range(steps):
        state, action = batch(step)  # type: ignore[operator]
        sample = {"vector.state": state, "action": action, "mask": torch.ones(len(state), 1, dtype=torch.bool)}
        optimiser.zero_grad()
        network.loss(sample, rng).mean().backward()
        optimiser.step()
    network.eval()


def acted(network: Network, state: Tensor) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        return network.head.sample(network.context({"vector.state": state}, rng), rng=rng)[:, 0, 0]


def episodes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return 9 steps (B, 9, 2), noise but for a cue of -1 or 1 at the first, and actions at the last around the cue."""
    rng = torch.Generator().manual_seed(seed)
    cue = 2.0 * torch.randint(0, 2, (count,), generator=rng) - 1
    state = 0.5 * torch.randn(count, 9, 2, generator=rng)
    state[..., 0] = 0.0
    state[:, 0, 0] = cue
    return state, (0.6 * cue + 0.1 * torch.randn(count, generator=rng))[:, None, None]


def remembers(config: PolicyConfig) -> float:
    """Return how often the policy, which sees the last `obs_horizon` of the steps, acts by the cue of the first."""
    network, seen = network_of(config, robot_of(2)), config.obs_horizon

    def batch(step: int) -> tuple[Tensor, Tensor]:
        state, action = episodes(64, step)
        return state[:, -seen:], action

    learn(network, batch, steps=250, lr=5e-3)
    state, action = episodes(500, 10_000)
    return (acted(network, state[:, -seen:]).sign() == action[:, 0, 0].sign()).float().mean().item()


def test_a_cue_eight_steps_ago_is_remembered() -> None:
    config = replace(bc_rnn(state="state", obs_horizon=9), width=32)
    assert remembers(config) >= 0.95
    without = replace(config, trunk=Fusion(), obs_horizon=1)
    assert 0.4 < remembers(without) < 0.6, "without a memory the cue can only be guessed"
    assert 0.4 < remembers(replace(config, obs_horizon=8)) < 0.6, "no state outlives the window"


def test_the_published_recurrent_policy_reads_the_numbers_themselves() -> None:
    """An LSTM of 2 x 400 units over raw numbers, as robomimic's: 4 (400 (S + 400) + 800) + 4 (400 * 800 + 800)."""
    config = bc_rnn(state="state", size="published")
    network = network_of(config, robot_of(9, 7))
    assert (config.obs_horizon, config.width, network.trunk.lstm.num_layers) == (10, 400, 2)
    assert network.trunk.lstm.input_size == 9 and not list(network.encoders.parameters())
    count = sum(p.numel() for p in network.trunk.parameters())
    assert count == 4 * (400 * (9 + 400) + 800) + 4 * (400 * 800 + 800)
    assert network.head.shape == (5, 1, 7)
    both = network_of(bc_rnn(cameras=("front",), state="state", size="published"), robot_of(9, 7, camera=84))
    assert both.trunk.lstm.input_size > 9


def jump(step: int) -> tuple[Tensor, Tensor]:
    x = 2 * torch.rand(64, 1, 1, generator=torch.Generator().manual_seed(step)) - 1
    return x, 0.8 * x.sign()


def test_a_jump_is_a_jump_under_an_energy_and_not_under_regression() -> None:
    head = Energy(hidden=64, blocks=2, negatives=32, search="derivative_free", penalty=0.0, temperature=0.0)
    config = replace(implicit_bc(state="state", head=head, obs_horizon=1), width=32)
    x = torch.linspace(-0.2, 0.2, 41)[:, None, None]
    between = {}
    for name, policy in {"energy": config, "regression": replace(config, head=Regression(blocks=1))}.items():
        network = network_of(policy, robot_of(1))
        learn(network, jump, steps=150, lr=2e-3)
        between[name] = (acted(network, x).abs() < 0.6).float().mean().item()
        right = acted(network, torch.tensor([-0.8, -0.4, 0.4, 0.8])[:, None, None])
        assert right.sign().tolist() == [-1, -1, 1, 1]
    assert between["energy"] <= 0.05 and between["regression"] >= 0.09, between


def test_what_observes_nothing_is_refused() -> None:
    for preset in (bc_rnn, implicit_bc):
        with pytest.raises(KinemaError, match="observes nothing: give it cameras, a state, or both"):
            preset(state=None)
    with pytest.raises(KinemaError, match=r"unknown size of bc_rnn 'publish'; did you mean 'published'"):
        bc_rnn(size="publish")
