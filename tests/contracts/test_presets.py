"""Every preset returns a PolicyConfig that builds, acts and survives JSON."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from kinema.actions.fast import FAST
from kinema.core.config import from_data, to_data
from kinema.core.errors import SpecMismatch
from kinema.core.names import find, members
from kinema.core.spec import RobotSpec
from kinema.core.transform import Chain
from kinema.heads.base import LearnsInStages
from kinema.heads.text_tokens import TextTokens
from kinema.policies.base import ComposedPolicy, PolicyConfig, to_tensor
from kinema.policies.network import Network, fingerprint

NAMES = members("policy")
CAMERAS = ("front", "wrist")
_LAST = r"trunk\.model\.(norm|layers\.3\.(self_attn\.[qo]_proj|mlp\.\w+|post_attention_layernorm))\.weight"
UNREAD = {"pi0": _LAST, "smolvla": _LAST}
"""What nothing reads: an expert reads a trunk's keys and values, so of its last layer nothing else."""


def statistics(robot: RobotSpec) -> dict[str, dict[str, np.ndarray]]:
    widths = {vector.key: len(vector.units) for vector in robot.observation.vectors} | {"action": robot.action.width}
    values = {
        "mean": 0.1,
        "std": 2.0,
        "min": -3.0,
        "max": 3.0,
        "q01": -2.5,
        "q10": -2.0,
        "q50": 0.0,
        "q90": 2.0,
        "q99": 2.5,
    }
    return {key: {name: np.full(width, value) for name, value in values.items()} for key, width in widths.items()}


@pytest.fixture
def preset(robot: RobotSpec, observe: Any) -> Callable[[str], PolicyConfig]:
    def build(name: str) -> PolicyConfig:
        config = find("policy", name)(cameras=CAMERAS)
        assert isinstance(config, PolicyConfig)

        def chunks(chain: Chain) -> tuple[np.ndarray, np.ndarray]:
            rng = np.random.default_rng(0)
            action = rng.normal(size=(64, config.pred_horizon, robot.action.width)).astype(np.float32)
            after, _ = chain.forward({**observe(64, config.obs_horizon), "action": action})
            return after["action"], np.ones(after["action"].shape[:2], bool)

        return config.fit(lambda before: statistics(robot), chunks)

    return build


def training_sample(config: PolicyConfig, robot: RobotSpec, observe: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    given = {**observe(3, config.obs_horizon), "mask": np.ones((3, config.pred_horizon), bool)}
    given["action"] = rng.normal(size=(3, config.pred_horizon, robot.action.width)).astype(np.float32)
    transformed, _ = Chain(config.transforms).forward(given)
    return {key: to_tensor(value, torch.device("cpu")) for key, value in transformed.items()}


@pytest.mark.parametrize("name", NAMES)
def test_file_is_short_and_imports_no_other_preset(name: str) -> None:
    source = inspect.getsource(inspect.getmodule(find("policy", name)))
    assert len(source.splitlines()) <= 120
    others = {f"kinema.policies.{other.replace('-', '_')}" for other in NAMES}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert node.module not in others
            assert not (node.module == "kinema.policies" and {alias.name for alias in node.names} != {"base"})
        if isinstance(node, ast.Import):
            assert not others & {alias.name for alias in node.names}


@pytest.mark.parametrize("name", NAMES)
def test_json_round_trip(
    name: str, preset: Callable[[str], PolicyConfig], robot: RobotSpec, built: Callable[..., Any]
) -> None:
    config = preset(name)
    restored = from_data(to_data(config))
    assert isinstance(restored, PolicyConfig) and to_data(restored) == to_data(config)
    assert list(restored.encoders) == list(config.encoders)
    first, second = (built(lambda c=c: Network(c, c.needs(robot))) for c in (config, restored))
    assert fingerprint(config, robot, first) == fingerprint(restored, robot, second)


@pytest.mark.filterwarnings("ignore:.*sampled rows of tokens are no chunk")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("obs_horizon", [1, 2])
def test_acts_within_the_bounds(
    name: str, obs_horizon: int, preset: Any, robot: RobotSpec, built: Callable[..., Any], observe: Any
) -> None:
    config = replace(preset(name), obs_horizon=obs_horizon)
    network = built(lambda: Network(config, config.needs(robot)))
    if isinstance(network.head, LearnsInStages):  # before its last stage it does not act
        network.head.end_stage()
        network.loss(training_sample(config, robot, observe), torch.Generator())
    policy = ComposedPolicy(config, robot, network)
    policy.reset([0, 1, 2], seeds=[1, 2, 3])
    given = {key: value for key, value in observe(3, obs_horizon).items() if key in config.reads}
    chunk = policy.act(given)
    assert chunk.action.shape == (3, config.pred_horizon, robot.action.width) and chunk.action.dtype == np.float32
    assert chunk.exec_horizon == config.exec_horizon
    assert (chunk.action >= robot.action.low).all() and (chunk.action <= robot.action.high).all()
    # What an untrained model says is no chunk that FAST can read: zeros.
    assert np.ptp(chunk.action) > 0 or (isinstance(config.head, TextTokens) and isinstance(config.head.codec, FAST))
    longer = {key: value for key, value in observe(3, obs_horizon + 1).items() if key in config.reads}
    with pytest.raises(SpecMismatch, match=rf"expected \(3, {obs_horizon}, "):
        policy.act(longer)


@pytest.mark.parametrize("name", NAMES)
def test_loss_trains_every_weight(
    name: str, preset: Any, robot: RobotSpec, built: Callable[..., Any], observe: Any
) -> None:
    config = preset(name)
    network = built(lambda: Network(config, config.needs(robot)))
    sample = training_sample(config, robot, observe)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    learnt = set()
    for _ in range(1 + isinstance(network.head, LearnsInStages)):
        for _ in range(4):
            optimiser.zero_grad()
            loss = network.loss(sample, torch.Generator().manual_seed(0))
            assert loss.shape == (3, config.pred_horizon)
            loss.mean().backward()
            optimiser.step()
        learnt |= {n for n, p in network.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
        if isinstance(network.head, LearnsInStages):
            network.head.end_stage()
    idle = [n for n, _ in network.named_parameters() if n not in learnt]
    assert idle == [n for n, _ in network.named_parameters() if re.fullmatch(UNREAD.get(name, ""), n)]


@pytest.mark.parametrize("name", NAMES)
def test_cameras_that_are_not_there_are_named(name: str, robot: RobotSpec) -> None:
    with pytest.raises(SpecMismatch, match=r"no observation 'image\.frnt'; did you mean 'image\.front'"):
        find("policy", name)(cameras=("frnt",)).needs(robot)
    blind = replace(robot, observation=replace(robot.observation, cameras=()))
    with pytest.raises(SpecMismatch, match=r"no observation 'image\.front'"):
        find("policy", name)(cameras=("front",)).needs(blind)
