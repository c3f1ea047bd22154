"""From a run directory to a policy, and every way in which the directory can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinema.core import config
from kinema.core.errors import CheckpointError
from kinema.core.spec import ActionSpec, ObservationSpec, RobotSpec, Vector
from kinema.deploy.load import POLICY_FILE, WEIGHTS_FILE, StoredPolicy, load_policy, load_stored
from kinema.heads.regression import Regression
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.trunks.fusion import Fusion
from kinema.policies.base import ComposedPolicy, PolicyConfig
from kinema.policies.network import Network, fingerprint
from kinema.train.weights import save_weights
from kinema.transforms.normalise import Normalise

STATISTICS = {"action": {"mean": np.array([0.1]), "std": np.array([0.5])}}
POLICY = PolicyConfig(
    encoders={"proprioception": Proprioception(hidden=4)},
    trunk=Fusion(blocks=1),
    head=Regression(blocks=1),
    transforms=(Normalise(modes={"action": "mean_std"}).fit(STATISTICS),),
    width=4,
    pred_horizon=3,
    exec_horizon=1,
)
ROBOT = RobotSpec(
    embodiment="arm",
    rate_hz=10.0,
    observation=ObservationSpec(
        vectors=(Vector(name="proprioception", components=("x",), units=("m",), frame="world"),)
    ),
    action=ActionSpec(
        components=("dx",), units=("m",), frame="world", kind="delta", integrator="controller", low=(-1.0,), high=(1.0,)
    ),
)
OBSERVATION = {"vector.proprioception": np.full((1, 1, 1), 0.3, np.float32)}


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network(POLICY, ROBOT)


@pytest.fixture
def run(tmp_path: Path, network: Network) -> Path:
    config.save(StoredPolicy(spec=ROBOT, policy=POLICY), tmp_path / POLICY_FILE)
    save_weights(network.state_dict(), tmp_path / WEIGHTS_FILE)
    return tmp_path


def test_the_loaded_policy_acts_as_the_trained_one(run: Path, network: Network) -> None:
    loaded = load_policy(run)
    assert loaded.spec == ROBOT and fingerprint(POLICY, ROBOT, loaded.network) == fingerprint(POLICY, ROBOT, network)
    trained = ComposedPolicy(POLICY, ROBOT, network)
    assert np.array_equal(loaded.act(OBSERVATION).action, trained.act(OBSERVATION).action)
    assert not loaded.network.training


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(type="os:path"), "refusing to load 'os:path'"),
        (lambda d: d.update(type="kinema.core.spec:Camera"), "unknown field|is missing"),
        (lambda d: d["policy"]["head"].update(blokcs=3), "unknown field 'blokcs'; did you mean 'blocks'"),
        (lambda d: d["policy"]["head"].update(blocks="many"), "field 'blocks' is 'many', expected int"),
        (lambda d: d["policy"].pop("trunk"), "field 'trunk' is missing"),
        (lambda d: d["policy"].update(encoders=[1]), "field 'encoders' is .*, expected Mapping"),
        (lambda d: d["policy"]["head"].update(type="builtins:eval"), "refusing to load 'builtins:eval'"),
        (lambda d: d["policy"].update(exec_horizon=9), "1 <= exec <= pred"),
    ],
)
def test_foreign_and_malformed_descriptions(run: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    edit(run / POLICY_FILE, change)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_policy(run)
    assert str(run / POLICY_FILE) in str(caught.value)


def test_another_kind_of_file(run: Path) -> None:
    config.save(ROBOT, run / POLICY_FILE)
    with pytest.raises(CheckpointError, match="holds a RobotSpec, expected a StoredPolicy"):
        load_stored(run)


def test_missing_files_say_what_to_do(run: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is no run directory: it has no policy\.json\nfix: "):
        load_policy(tmp_path / "elsewhere")
    (run / WEIGHTS_FILE).unlink()
    with pytest.raises(CheckpointError, match="training has not finished\nfix: run the same `kinema train` command"):
        load_policy(run)


@pytest.mark.parametrize("name", [POLICY_FILE, WEIGHTS_FILE])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_files(run: Path, name: str, share: float) -> None:
    content = (run / name).read_bytes()
    (run / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load_policy(run)


def test_every_weight_must_match_and_none_be_left_over(run: Path, network: Network) -> None:
    weights = dict(network.state_dict())
    name = "trunk.mix.bias"
    for tensors, message in (
        ({k: v for k, v in weights.items() if k != name}, "missing 'trunk.mix.bias'"),
        ({**weights, "trunk.mix.extra": torch.zeros(1)}, "not expected 'trunk.mix.extra'"),
        ({**weights, name: torch.zeros(5)}, r"'trunk.mix.bias' is float32 \(5,\), expected float32 \(4,\)"),
        ({**weights, name: weights[name].half()}, "'trunk.mix.bias' is float16"),
    ):
        save_weights(tensors, run / WEIGHTS_FILE)
        with pytest.raises(CheckpointError, match=message):
            load_policy(run)
