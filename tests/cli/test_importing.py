"""`kinema import` and `kinema export`: a checkpoint of LeRobot becomes a run directory, and one of LeRobot again."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kinema.cli.main import main
from kinema.deploy.load import StoredPolicy, load_policy

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "goldens"))
from filled import pixels, uniform
from lerobot_directories import chunk, directory


def filled_in(path: Path) -> Path:
    """Return the robot.json with an answer for each "?"."""
    said = json.loads(path.read_text("utf-8"))
    answers = {"embodiment": "testarm", "rate_hz": 10.0}
    said |= answers
    [vector] = said["observation"]["vectors"]
    vector |= {"components": ["x", "y", "z"], "units": ["m"] * 3, "frame": "base"}
    said["action"] |= {
        "components": ["x", "y"],
        "units": ["m", "m"],
        "frame": "base",
        "kind": "end-effector absolute position",
        "integrator": "controller",
        "low": [-9.0, -9.0],
        "high": [9.0, 9.0],
        "gripper": None,
    }
    path.write_text(json.dumps(said), "utf-8")
    return path


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_there_and_back_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there, robot, out = directory("act", tmp_path / "there"), tmp_path / "robot.json", tmp_path / "run"
    assert run("import", there, "--out", out) == 2
    said = capsys.readouterr().err
    assert "robot.json does not exist" in said and "vectors: proprioception (3); action (2)" in said
    assert f"fix: kinema import {there} --robot-out robot.json" in said
    assert run("import", there, "--robot-out", robot) == 0
    assert run("import", there, "--robot", robot, "--out", out) == 2
    assert "does not say embodiment, rate_hz, observation.vectors.components" in capsys.readouterr().err
    assert run("import", there, "--robot", filled_in(robot), "--out", out) == 0
    assert "act of lerobot, cameras: top 48 x 64, wrist 48 x 64" in capsys.readouterr().out
    assert run("info", out) == 0
    assert "imported.sha256.model.safetensors" in capsys.readouterr().out

    policy = load_policy(out)
    seen = {f"image.{name}": pixels(f"{name}0", (2, 48, 64, 3))[:, None] for name in ("top", "wrist")}
    seen |= {"vector.proprioception": uniform("state0", (2, 3))[:, None]}
    assert np.abs(policy.act(seen).action[:, :6] - chunk("act")).max() <= 1e-5

    assert run("export", out, "--out", tmp_path / "back") == 0
    assert run("import", tmp_path / "back", "--out", tmp_path / "again") == 0
    for name in ("policy.json", "weights.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()


def test_adapters_are_exported_merged(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from kinema.core import config
    from kinema.nets.adapters import adapt
    from kinema.nets.ema import named_weights
    from kinema.nets.lora import Adapter, Lora, digest
    from kinema.train.weights import save_weights

    there, robot = directory("act", tmp_path / "there"), tmp_path / "robot.json"
    run("import", there, "--robot-out", robot)
    assert run("import", there, "--robot", filled_in(robot), "--out", tmp_path / "base") == 0
    policy, lora = load_policy(tmp_path / "base"), Lora(rank=2, train=())
    adapter = Adapter(lora=lora, base="../base", sha256=digest(named_weights(policy.network)))
    adapt(policy.network, lora)
    with torch.no_grad():
        for parameter in policy.network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05)
    (tmp_path / "a").mkdir()
    save_weights(named_weights(policy.network), tmp_path / "a" / "weights.safetensors")
    config.save(StoredPolicy(spec=policy.spec, policy=policy.config, adapter=adapter), tmp_path / "a" / "policy.json")

    assert run("export", tmp_path / "a", "--out", tmp_path / "x") == 0
    assert run("import", tmp_path / "x", "--out", tmp_path / "again") == 0
    names = {name: load_file(tmp_path / name / "model.safetensors").keys() for name in ("x", "there")}
    assert names["x"] <= names["there"]
    seen = {f"image.{name}": pixels(f"{name}0", (2, 48, 64, 3))[:, None] for name in ("top", "wrist")}
    seen |= {"vector.proprioception": uniform("state0", (2, 3))[:, None]}
    base, own, again = (load_policy(tmp_path / name).act(seen).action for name in ("base", "a", "again"))
    assert np.abs(own - again).max() <= 1e-5 and np.abs(own - base).max() > 1e-3


def test_a_robot_that_is_another_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there, robot = directory("act", tmp_path / "there"), tmp_path / "robot.json"
    run("import", there, "--robot-out", robot)
    said = json.loads(filled_in(robot).read_text("utf-8"))
    said["observation"]["cameras"][0] |= {"name": "tip"}
    said["observation"]["cameras"][1] |= {"height": 40}
    [vector] = said["observation"]["vectors"]
    vector |= {"components": ["x", "y"], "units": ["m"] * 2}
    robot.write_text(json.dumps(said), "utf-8")
    assert run("import", there, "--robot", robot, "--out", tmp_path / "run") == 2
    shown = capsys.readouterr().err
    assert "no camera 'top'; did you mean 'tip'?; it has: tip, wrist" in shown
    assert "camera 'wrist' is 40 x 64 px, expected 48 x 64" in shown
    assert "vector 'proprioception' has 2 components, expected 3" in shown
    assert not (tmp_path / "run").exists()


def test_wrong_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = directory("act", tmp_path / "there")
    for words, message in (
        (("import", there), "give either --out for the policy or --robot-out"),
        (("import", tmp_path / "thera", "--out", tmp_path / "o"), "did you mean 'there'?"),
        (("import", tmp_path, "--out", tmp_path / "o"), "has no config.json"),
        (("import", there, "--format", "lerobt", "--out", tmp_path / "o"), "unknown checkpoint 'lerobt'"),
        (("import", there, "--robot-out", there / "config.json"), "is there already"),
        (("import", there, "--robot-out", tmp_path / "r", "--robot", tmp_path / "q"), "--robot is for --out"),
        (("import", there, "--out", there), "is there already and not empty"),
        (("export", there, "--out", tmp_path / "o"), "is no run directory"),
        (("export", there, "--out", there), "is there already; an export overwrites nothing"),
        (("export", there, "--format", "lerobt", "--out", tmp_path / "o"), "unknown format to export to 'lerobt'"),
    ):
        assert run(*words) == 2
        assert message in capsys.readouterr().err
    run("import", there, "--robot-out", there / "robot.json")
    filled_in(there / "robot.json")
    whole = json.loads((there / "config.json").read_text("utf-8"))
    for name, value in (("dim_feedforward", -3), ("output_features", {"action": {"type": ["ACTION"], "shape": [2]}})):
        (there / "config.json").write_text(json.dumps({**whole, name: value}), "utf-8")
        assert run("import", there, "--out", tmp_path / "o") == 2
        assert "there: an entry is not what it should be (" in capsys.readouterr().err
    (there / "config.json").unlink()
    (there / "policy.ckpt").touch()
    assert run("import", there, "--out", tmp_path / "o") == 2
    assert "policy.ckpt is a pickle, which can run code and is not loaded" in capsys.readouterr().err
