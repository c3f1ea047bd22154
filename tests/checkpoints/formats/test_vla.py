"""SmolVLA of LeRobot acts here as there; pi0's weights have one name each in LeRobot, openpi and here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filled import uniform
from lerobot_directories import chunk

from kinema.checkpoints import pi0
from kinema.checkpoints.foreign import Choices
from kinema.checkpoints.formats.lerobot import lerobot
from kinema.checkpoints.formats.openpi import openpi
from kinema.checkpoints.lerobot import smolvla, vla
from kinema.checkpoints.lerobot.export import export_lerobot
from kinema.core.config import to_data
from kinema.core.errors import CheckpointError, KinemaError
from kinema.nets.encoders.prompt import Prompt
from kinema.policies.base import ComposedPolicy
from kinema.policies.network import Network
from kinema.policies.pi0 import pi0 as pi0_preset

NAMES = Path(__file__).resolve().parents[2] / "goldens" / "lerobot_vla_names.npz"


def published(policy: str) -> dict[str, torch.Tensor]:
    """Return all that LeRobot 0.4.4 has in `policy` at its published size, without values."""
    with np.load(NAMES) as stored:
        names, shapes = (stored[f"{policy}/{part}"] for part in ("names", "shapes"))
    return {
        str(name): torch.empty([int(size) for size in shape.split(",") if size], device="meta")
        for name, shape in zip(names, shapes, strict=True)
    }


@pytest.fixture
def robot(lerobots_robot: Any) -> Any:
    made = lerobots_robot("diffusion")
    return replace(made, observation=replace(made.observation, instruction=True))


def test_smolvla_acts_as_it_does_there_and_goes_back(
    lerobots_directory: Any, robot: Any, lerobots_observation: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = lerobots_directory("smolvla")
    choices = Choices(tokenizer=path / "vlm")
    made = lerobot(path, choices).imported(robot)
    monkeypatch.setattr("kinema.heads.flow.normal", lambda shape, *_: torch.from_numpy(uniform("noise", shape)))
    network = Network(made.policy, robot)
    network.load_state_dict(dict(made.weights), strict=True)
    seen = {**lerobots_observation("diffusion", 1), "instruction": ["push the cup", "open the drawer"]}
    got = ComposedPolicy(made.policy, robot, network).act(seen)
    want = chunk("smolvla")
    assert got.exec_horizon == 4 and np.abs(got.action - want).max() <= 1e-4
    assert np.abs(want[0] - want[1]).max() > 0.1
    out = tmp_path / "out"
    assert export_lerobot(made.policy, made.policy.needs(robot), made.weights, out) == "smolvla"
    again = lerobot(out, choices).imported(robot)
    assert to_data(again.policy) == to_data(made.policy)
    assert all(made.weights[name].equal(value) for name, value in again.weights.items())
    theirs, own = (json.loads((folder / "config.json").read_text("utf-8")) for folder in (path, out))
    free = ("push_to_hub", "vlm_model_name")
    assert {n: v for n, v in own.items() if n not in free} == {n: theirs[n] for n in own if n not in free}


def test_a_language_model_without_words_is_named(lerobots_directory: Any, robot: Any) -> None:
    with pytest.raises(KinemaError, match=r"the words are those of vlm.*\nfix: --tokenizer DIRECTORY"):
        lerobot(lerobots_directory("smolvla"), Choices()).imported(robot)


def test_division_is_undone_by_the_product() -> None:
    value = vla.times(torch.from_numpy(uniform("w", (4096,))), 960**0.5)
    assert vla.times(vla.divided(value, 960**0.5), 960**0.5).equal(value)


def test_every_weight_of_pi0_has_a_name_whichever_version_saved_it(robot: Any) -> None:
    there = published("pi0")
    here = {name: value.shape for name, value in pi0.weights(there).items()}
    config = pi0_preset(cameras=("top",), size="published", tokenizer="elsewhere")
    prompt = replace(config.encoders["instruction"], tokenizer="bytes")  # type: ignore[type-var]
    assert isinstance(prompt, Prompt)
    pads = tuple(replace(t, own=2) if "own" in vars(t) else t for t in config.transforms)  # type: ignore[type-var]
    with torch.device("meta"):
        network = Network(replace(config, encoders={**config.encoders, "instruction": prompt}, transforms=pads), robot)
    assert here == {name: value.shape for name, value in network.state_dict().items()}
    older = {
        f"model.{name}".replace("paligemma.model.language_model.", "paligemma.language_model.model.")
        .replace("paligemma.model.", "paligemma.")
        .replace("action_time_mlp", "time_mlp"): value
        for name, value in there.items()
        if "embed_tokens" not in name
    }
    assert {name: value.shape for name, value in pi0.weights(older).items()} == here
    with pytest.raises(KinemaError, match=r"no name for the weight 'state_prj.bias'"):
        pi0.weights({**there, "state_prj.bias": torch.zeros(1)})


def test_every_weight_of_smolvla_has_a_name() -> None:
    there = {f"model.{name}": value for name, value in published("smolvla").items()}
    assert {smolvla.NAMES.theirs(smolvla.NAMES.ours(name)) for name in there} == set(there)


def openpi_directory(path: Path, **changes: Any) -> Path:
    said = {
        "action_dim": 32, "action_horizon": 50, "paligemma_variant": "gemma_2b", "action_expert_variant": "gemma_300m",
        "precision": "float32", **changes,
    }  # fmt: skip
    (path / "config.json").write_text(json.dumps(said))
    own = {"mean": [0.0, 1.0, 2.0], "std": [1.0, 1.0, 0.5]}
    (path / "assets" / "arm").mkdir(parents=True, exist_ok=True)
    stored = {"norm_stats": {"state": own, "actions": own}}
    (path / "assets" / "arm" / "norm_stats.json").write_text(json.dumps(stored))
    return path


def test_openpi_says_widths_by_its_statistics(tmp_path: Path) -> None:
    found = openpi(openpi_directory(tmp_path), Choices())
    assert found.said.vectors == {"proprioception": 3} and found.said.action == 3 and found.said.instruction
    assert [path.name for path in found.files] == ["config.json", "norm_stats.json"]


def test_openpi_as_it_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="'pi05' is True"):
        openpi(openpi_directory(tmp_path, pi05=True), Choices())
    with pytest.raises(CheckpointError, match="unknown entry 'max_token_len'"):
        openpi(openpi_directory(tmp_path, max_token_len=200), Choices())
    openpi_directory(tmp_path)
    (tmp_path / "assets" / "arm" / "norm_stats.json").write_text('{"norm_stats": {"state": {}}}')
    with pytest.raises(CheckpointError, match="has no mean and std of 'state'"):
        openpi(tmp_path, Choices())
    (tmp_path / "assets" / "arm" / "norm_stats.json").unlink()
    with pytest.raises(CheckpointError, match=r"expected one norm_stats.json of one robot below assets, found none"):
        openpi(tmp_path, Choices())
    (tmp_path / "params").mkdir()
    with pytest.raises(CheckpointError, match=r"holds JAX parameters.*\nfix: in openpi, python examples/convert_jax"):
        openpi(tmp_path, Choices())
