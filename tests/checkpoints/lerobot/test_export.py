"""What is exported is what was imported, file by file, and LeRobot 0.4.4 said the same of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lerobot_directories import FOLDER, chunk
from safetensors.torch import load_file

from kinema.checkpoints.foreign import Choices, Imported
from kinema.checkpoints.formats.lerobot import lerobot
from kinema.checkpoints.lerobot.export import export_lerobot
from kinema.core.config import to_data
from kinema.core.errors import CheckpointError
from kinema.heads.regression import Regression
from kinema.transforms.resize import Resize

CONSTANTS = {"act": "model.vae_encoder_pos_enc", "diffusion": "diffusion.rgb_encoder.pool.pos_grid"}
"""What LeRobot stores though it computes it: it is not exported, and LeRobot's loader keeps its own."""
SAID = json.loads((FOLDER.parent / "lerobot_loads_exports.json").read_text("utf-8"))


def imported(path: Path, spec: Any) -> Imported:
    return lerobot(path, Choices()).imported(spec)


def written(made: Imported, out: Path) -> Path:
    export_lerobot(made.policy, made.policy.needs(made.spec), made.weights, out)
    return out


@pytest.mark.parametrize("kind", CONSTANTS)
def test_exported_is_what_lerobot_saved(
    kind: str, lerobots_directory: Any, lerobots_robot: Any, tmp_path: Path
) -> None:
    there, spec = lerobots_directory(kind), lerobots_robot(kind)
    out = written(imported(there, spec), tmp_path / "out")
    weights, said = load_file(there / "model.safetensors"), load_file(out / "model.safetensors")
    assert set(weights) - set(said) == {CONSTANTS[kind]} and set(said) <= set(weights)
    assert all(weights[name].equal(value) for name, value in said.items())
    own, theirs = (json.loads((path / "config.json").read_text("utf-8")) for path in (out, there))
    free = {"push_to_hub"}
    assert {n: v for n, v in own.items() if n not in free} == {n: theirs[n] for n in own if n not in free}
    for processor in ("policy_preprocessor", "policy_postprocessor"):
        one, other = (json.loads((path / f"{processor}.json").read_text("utf-8")) for path in (out, there))
        assert one == other
        [own_file, their_file] = [next(path.glob(f"{processor}_*.safetensors")) for path in (out, there)]
        assert own_file.name == their_file.name
        statistics = load_file(their_file)
        assert all(statistics[name].equal(value) for name, value in load_file(own_file).items())


@pytest.mark.parametrize("kind", CONSTANTS)
def test_there_and_back_is_the_same(kind: str, lerobots_directory: Any, lerobots_robot: Any, tmp_path: Path) -> None:
    spec = lerobots_robot(kind, state="joints")
    path = lerobots_directory(kind)
    processor = path / "policy_preprocessor.json"
    renamed = '"rename_map": {"observation.joints": "observation.state"}'
    processor.write_text(processor.read_text("utf-8").replace('"rename_map": {}', renamed), "utf-8")
    first = imported(path, spec)
    out = written(first, tmp_path / "out")
    again = imported(out, spec)
    assert to_data(again.policy) == to_data(first.policy)
    assert set(again.weights) == set(first.weights)
    assert all(first.weights[name].equal(value) for name, value in again.weights.items())
    once, twice = out, written(again, tmp_path / "twice")
    for file in once.iterdir():
        assert file.read_bytes() == (twice / file.name).read_bytes()


@pytest.mark.parametrize("kind", CONSTANTS)
def test_lerobot_said_the_same_of_what_was_exported(kind: str) -> None:
    """Made by check_lerobot_export.py from exports of the goldens, the vector of ACT's robot called "joints"."""
    assert SAID[kind]["type"] == kind and SAID[kind]["missing"] == [CONSTANTS[kind]]
    assert np.array_equal(np.array(SAID[kind]["chunk"], np.float32), chunk(kind))
    assert SAID[kind]["renamed"] == ({"observation.joints": "observation.state"} if kind == "act" else {})


def test_what_lerobot_has_no_place_for(lerobots_directory: Any, lerobots_robot: Any, tmp_path: Path) -> None:
    made = imported(lerobots_directory("act"), lerobots_robot("act"))
    out = tmp_path / "out"
    resized = replace(made.policy, transforms=(Resize(height=48, width=64), *made.policy.transforms))
    with pytest.raises(CheckpointError, match=r"(?s)LeRobot has no place for this policy:.*transforms"):
        written(replace(made, policy=resized), out)
    images = replace(made.policy.encoders["images"], layers=10)  # type: ignore[type-var]
    small = replace(made.policy, encoders={**made.policy.encoders, "images": images})
    with pytest.raises(CheckpointError, match="no residual network of 10 layers, 64 channels and 4 stages"):
        written(replace(made, policy=small), out)
    with pytest.raises(
        CheckpointError, match="LeRobot has no policy with the head Regression; exported are those with"
    ):
        written(replace(made, policy=replace(made.policy, head=Regression())), out)
    one_step = replace(made.policy, obs_horizon=2)
    with pytest.raises(CheckpointError, match="obs_horizon is 2, there 1"):
        written(replace(made, policy=one_step), out)
    name = next(name for name in made.weights if name.startswith("trunk.") and name.endswith(".weight"))
    layered = {n.replace(name, name.replace(".weight", ".base_layer.weight")): w for n, w in made.weights.items()}
    with pytest.raises(CheckpointError, match=r"LeRobot has no place.*\n  weight 'trunk.*base_layer"):
        written(replace(made, weights=layered), out)
    assert not out.exists() and not list(tmp_path.glob(".*tmp"))
