"""Directories that LeRobot 0.4.4 saved act here as they do there: the same chunk in robot units."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lerobot_directories import chunk
from safetensors.torch import load_file, save_file

from kinema.checkpoints.foreign import Choices, Imported
from kinema.checkpoints.formats.lerobot import lerobot
from kinema.core.errors import CheckpointError, KinemaError
from kinema.core.spec import RobotSpec
from kinema.heads.vq_bet import VqBet
from kinema.policies.base import ComposedPolicy
from kinema.policies.network import Network

KINDS = ("act", "diffusion", "vqbet")


def imported(path: Path, spec: RobotSpec) -> Imported:
    found = lerobot(path, Choices())
    found.said.check(spec, path)
    return found.imported(spec)


def acting(made: Imported) -> ComposedPolicy:
    config = made.policy
    if isinstance(config.head, VqBet):
        config = replace(config, head=replace(config.head, temperature=0.0))  # the golden takes the likeliest codes
    network = Network(config, made.spec)
    network.load_state_dict(dict(made.weights), strict=True)
    return ComposedPolicy(config, made.spec, network)


@pytest.mark.usefixtures("lerobots_noise")
@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_acts_as_it_does_there(
    kind: str, lerobots_directory: Any, lerobots_robot: Any, lerobots_observation: Any
) -> None:
    policy = acting(imported(lerobots_directory(kind), lerobots_robot(kind)))
    got = policy.act(lerobots_observation(kind, policy.obs_horizon))
    want = chunk(kind)
    assert got.exec_horizon == want.shape[1] or kind == "vqbet"
    assert np.abs(got.action[:, : want.shape[1]] - want).max() <= 1e-5
    assert np.ptp(want, axis=1).max() > 1e-3 and np.abs(want[0] - want[1]).max() > 1e-3


def test_diffusion_policy_drops_the_steps_that_are_past(lerobots_directory: Any, lerobots_robot: Any) -> None:
    made = imported(lerobots_directory("diffusion"), lerobots_robot("diffusion"))
    assert (made.policy.obs_horizon, made.policy.pred_horizon, made.policy.exec_horizon) == (2, 15, 8)
    network = acting(made).network
    context = network.context(
        {
            "image.top": torch.zeros(1, 2, 42, 55, 3, dtype=torch.uint8),
            "vector.proprioception": torch.zeros(1, 2, 3),
        },
        torch.Generator(),
    )
    loss = network.head.loss(context, torch.zeros(1, 15, 2), torch.ones(1, 15, dtype=torch.bool), rng=torch.Generator())
    assert loss.shape == (1, 15) and (loss > 0).all()


def older(path: Path) -> Path:
    """Return the directory as LeRobot before 0.4 had it: statistics among the weights, no processors."""
    weights = load_file(path / "model.safetensors")
    inside = {}
    for place, file in (("normalize_inputs", "pre"), ("unnormalize_outputs", "post"), ("normalize_targets", "post")):
        [stored] = path.glob(f"policy_{file}processor_*.safetensors")
        for name, value in load_file(stored).items():
            key, _, statistic = name.rpartition(".")
            if (key == "action") == (file == "post") and statistic in ("mean", "std", "min", "max"):
                inside[f"{place}.buffer_{key.replace('.', '_')}.{statistic}"] = value
    save_file({**weights, **inside}, path / "model.safetensors")
    for file in path.glob("policy_*"):
        file.unlink()
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_inside_the_weights_are_the_same(kind: str, lerobots_directory: Any, lerobots_robot: Any) -> None:
    path, spec = lerobots_directory(kind), lerobots_robot(kind)
    now = imported(path, spec)
    before = imported(older(path), spec)
    assert set(now.weights) == set(before.weights)
    assert before.policy.encoders == now.policy.encoders
    [[one], [other]] = [[t for t in p.policy.transforms if "statistics" in vars(t)] for p in (now, before)]
    assert vars(one)["modes"] == vars(other)["modes"]
    for key, values in vars(one)["statistics"].items():
        assert all(np.array_equal(vars(other)["statistics"][key][name], value) for name, value in values.items())


def test_what_is_renamed_on_the_way_in_has_the_robots_name(lerobots_directory: Any) -> None:
    path = lerobots_directory("act")
    edit(path / "policy_preprocessor.json", lambda said: said["steps"][0]["config"].update(rename_map=RENAMED))
    said = lerobot(path, Choices()).said
    assert list(said.cameras) == ["front", "wrist"] and said.vectors == {"joints": 3}


RENAMED = {"observation.images.front": "observation.images.top", "observation.joints": "observation.state"}


def edit(path: Path, change: Any) -> None:
    said = json.loads(path.read_text("utf-8"))
    change(said)
    path.write_text(json.dumps(said), "utf-8")


def test_a_state_that_never_changed_is_what_it_was_there(lerobots_directory: Any, lerobots_robot: Any) -> None:
    """LeRobot's MIN_MAX makes -1 of it, and the same value in robot units comes back for an action."""
    path = lerobots_directory("diffusion")
    for stored in path.glob("policy_*.safetensors"):
        values = load_file(stored)
        for key in ("observation.state", "action"):
            values[f"{key}.max"][0] = values[f"{key}.min"][0]
        save_file(values, stored)
    scale = imported(path, lerobots_robot("diffusion")).policy.transforms[1]
    low = values["observation.state.min"].numpy()
    sample, memo = scale.forward({"vector.proprioception": low[None, None]})
    assert sample["vector.proprioception"][0, 0, 0] == -1.0
    action = scale.inverse(np.full((1, 1, 2), 0.5, np.float32), memo)
    assert action[0, 0, 0] == pytest.approx(values["action.min"][0].item())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda said: said.update(type="atc"), "unknown policy type of LeRobot 'atc'; did you mean 'act'"),
        (lambda said: said.update(pre_norm=True), "'pre_norm' is True, which kinema cannot do; expected False"),
        (lambda said: said.update(new_part=3), "unknown entry 'new_part'.*was it made by a newer version"),
        (lambda said: said.update(vision_backbone="resnet81"), "unknown vision_backbone.*did you mean 'resnet18'"),
        (lambda said: said.update(use_peft=True), "'use_peft' is True"),
        (lambda said: said.update(chunk_size="ten"), "'chunk_size' is 'ten', expected int"),
        (lambda said: said.pop("dim_model"), "does not say 'dim_model'"),
        (lambda said: said.update(vision_backbone=["resnet18"]), "lerobots_act: an entry is not what it should be"),
        (
            lambda said: said["input_features"]["observation.state"].update(type=["STATE"]),
            "an entry is not what it should be .TypeError",
        ),
        (lambda said: said["normalization_mapping"].update(STATE="QUANTILE10"), "disagree on what is normalised"),
        (
            lambda said: said["input_features"].update(
                {"observation.environment_state": {"type": "ENV", "shape": [4]}}
            ),
            "feature 'observation.environment_state' of type ENV",
        ),
    ],
)
def test_a_configuration_that_kinema_does_not_have(
    change: Any, message: str, lerobots_directory: Any, lerobots_robot: Any
) -> None:
    path = lerobots_directory("act")
    edit(path / "config.json", change)
    with pytest.raises(KinemaError, match=f"(?s){message}"):
        imported(path, lerobots_robot("act"))


@pytest.mark.parametrize(("entry", "value"), [("eps", 1e-2), ("normalize_observation_keys", ["observation.state"])])
def test_a_normaliser_that_scales_otherwise_is_refused(
    entry: str, value: Any, lerobots_directory: Any, lerobots_robot: Any
) -> None:
    path = lerobots_directory("act")
    edit(path / "policy_preprocessor.json", lambda said: said["steps"][3]["config"].update({entry: value}))
    with pytest.raises(CheckpointError, match=f"{entry} of normalizer_processor is .*, expected "):
        imported(path, lerobots_robot("act"))


@pytest.mark.parametrize(("averaged", "order"), [(0.01, "oldest_first"), (-0.2, "newest_first")])
def test_how_chunks_are_averaged_is_said(
    averaged: float, order: str, lerobots_directory: Any, lerobots_robot: Any
) -> None:
    path = lerobots_directory("act")
    assert "chunking" not in imported(path, lerobots_robot("act")).facts
    edit(path / "config.json", lambda said: said.update(temporal_ensemble_coeff=averaged))
    rule = imported(path, lerobots_robot("act")).facts["chunking"]
    assert rule == f"ensemble --decay {abs(averaged):g} --order {order}"


def test_half_a_download_is_named(lerobots_directory: Any, lerobots_robot: Any) -> None:
    path, robot = lerobots_directory("act"), lerobots_robot("act")
    whole = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"cannot read .*model\.safetensors.*is the download whole"):
        imported(path, robot)
    (path / "model.safetensors").unlink()
    (path / "pytorch_model.bin").touch()
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin is a pickle, which can run code and is not loaded"):
        imported(path, robot)
    shutil.copy(path / "config.json", path / "kept")
    (path / "config.json").write_text('{"type": "act"', "utf-8")
    with pytest.raises(CheckpointError, match=r"cannot read .*config\.json"):
        imported(path, robot)


def test_missing_statistics_are_named(lerobots_directory: Any, lerobots_robot: Any) -> None:
    path, robot = lerobots_directory("act"), lerobots_robot("act")
    [stored] = path.glob("policy_pre*.safetensors")
    stored.unlink()
    with pytest.raises(CheckpointError, match=r"normalizer_processor.safetensors is missing\nfix: finish the download"):
        imported(path, robot)
    for name in ("pre", "post"):
        edit(path / f"policy_{name}processor.json", lambda said: [s.pop("state_file", None) for s in said["steps"]])
    with pytest.raises(
        CheckpointError, match=r"(?s)does not say it; it has: none.*a base to train on has no statistics"
    ):
        imported(path, robot)
    edit(
        path / "policy_preprocessor.json", lambda said: said["steps"].append({"registry_name": "normaliser_processor"})
    )
    with pytest.raises(KinemaError, match=r"unknown step.*did you mean 'normalizer_processor'"):
        imported(path, robot)


def test_weights_without_a_name_here(lerobots_directory: Any, lerobots_robot: Any) -> None:
    path = lerobots_directory("act", extra={"model.encoder.layers.0.self_atn.bias": torch.zeros(1)})
    with pytest.raises(KinemaError, match=re.escape("no name for the weight 'model.encoder.layers.0.self_atn.bias'")):
        imported(path, lerobots_robot("act"))


def test_options_of_other_formats_are_refused(lerobots_directory: Any) -> None:
    with pytest.raises(KinemaError, match="--unnorm-key bridge_orig: act of lerobot has no use for it"):
        lerobot(lerobots_directory("act"), Choices(unnorm_key="bridge_orig"))
