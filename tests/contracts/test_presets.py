"""Every preset returns a PolicyConfig that builds, acts and survives JSON."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from kinema.core.config import from_data, to_data
from kinema.core.errors import SpecMismatch
from kinema.core.names import find, members
from kinema.core.spec import RobotSpec
from kinema.policies.base import ComposedPolicy, Network, PolicyConfig, fingerprint

NAMES = members("policy")
CAMERAS = ("front", "wrist")


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
def preset(robot: RobotSpec) -> Callable[[str], PolicyConfig]:
    def build(name: str) -> PolicyConfig:
        config = find("policy", name)(cameras=CAMERAS)
        assert isinstance(config, PolicyConfig)
        return config.fit(lambda before: statistics(robot))

    return build


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


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("obs_horizon", [1, 2])
def test_acts_within_the_bounds(
    name: str, obs_horizon: int, preset: Any, robot: RobotSpec, built: Callable[..., Any], observe: Any
) -> None:
    config = replace(preset(name), obs_horizon=obs_horizon)
    policy = ComposedPolicy(config, robot, built(lambda: Network(config, config.needs(robot))))
    policy.reset([0, 1, 2], seeds=[1, 2, 3])
    given = {key: value for key, value in observe(3, obs_horizon).items() if key in config.reads}
    chunk = policy.act(given)
    assert chunk.action.shape == (3, config.pred_horizon, robot.action.width) and chunk.action.dtype == np.float32
    assert chunk.exec_horizon == config.exec_horizon
    assert (chunk.action >= robot.action.low).all() and (chunk.action <= robot.action.high).all()
    assert np.ptp(chunk.action) > 0
    longer = {key: value for key, value in observe(3, obs_horizon + 1).items() if key in config.reads}
    with pytest.raises(SpecMismatch, match=rf"expected \(3, {obs_horizon}, "):
        policy.act(longer)


@pytest.mark.parametrize("name", NAMES)
def test_loss_trains_every_weight(
    name: str, preset: Any, robot: RobotSpec, built: Callable[..., Any], observe: Any
) -> None:
    config = preset(name)
    network = built(lambda: Network(config, config.needs(robot)))
    sample = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in observe(3).items()}
    sample["action"] = torch.randn(3, config.pred_horizon, robot.action.width)
    sample["mask"] = torch.ones(3, config.pred_horizon, dtype=torch.bool)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(4):
        optimiser.zero_grad()
        loss = network.loss(sample, torch.Generator().manual_seed(0))
        assert loss.shape == (3, config.pred_horizon)
        loss.mean().backward()
        optimiser.step()
    assert not [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]


@pytest.mark.parametrize("name", NAMES)
def test_cameras_that_are_not_there_are_named(name: str, robot: RobotSpec) -> None:
    with pytest.raises(SpecMismatch, match=r"no observation 'image\.frnt'; did you mean 'image\.front'"):
        find("policy", name)(cameras=("frnt",)).needs(robot)
    blind = replace(robot, observation=replace(robot.observation, cameras=()))
    with pytest.raises(SpecMismatch, match=r"no observation 'image\.front'"):
        find("policy", name)(cameras=("front",)).needs(blind)
