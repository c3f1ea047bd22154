"""OpenVLA's statistics scale its actions as its code does, and every weight has its place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from safetensors.torch import save_file

from kinema.checkpoints import layouts
from kinema.checkpoints.foreign import Choices
from kinema.checkpoints.formats import openvla as module
from kinema.checkpoints.formats.openvla import openvla
from kinema.core.errors import CheckpointError, KinemaError, SpecMismatch
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec
from kinema.nets.towers.sizes import TINY_DINOV2, TINY_SIGLIP
from kinema.policies.base import ComposedPolicy
from kinema.policies.network import Network

GOLDEN = Path(__file__).resolve().parents[2] / "goldens" / "prismatic_towers.npz"
WORDS = 320
STATISTICS = {"q01": [-0.5, 0.0, 0.0], "q99": [1.5, 0.25, 1.0], "mask": [True, True, False]}


def robot(cameras: int = 1) -> RobotSpec:
    action = ActionSpec(
        components=("dx", "dy", "gripper"), units=("m", "m", "none"), frame="base", kind="end-effector delta position",
        integrator="controller", low=(-9.0,) * 3, high=(9.0,) * 3, gripper="1 opens, 0 closes",
    )  # fmt: skip
    seen = tuple(Camera(name=f"camera{number}", height=32, width=32) for number in range(cameras))
    return RobotSpec(
        embodiment="testarm", rate_hz=5.0, observation=ObservationSpec(cameras=seen, instruction=True), action=action
    )


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory as OpenVLA's authors save one, tiny."""
    small = {"width": 16, "heads": 2, "norm": False, "activation": "gelu"}
    towers = (replace(TINY_DINOV2, hidden=64, registers=2, **small), replace(TINY_SIGLIP, hidden=48, **small))  # type: ignore[arg-type]
    for name, tower in zip(("tiny_dinov2", "tiny_siglip"), towers, strict=True):
        monkeypatch.setitem(layouts.TIMM, name, tower)
    monkeypatch.setattr(module, "BLANK", 5)
    text = {
        "vocab_size": WORDS + 8, "hidden_size": 48, "intermediate_size": 64, "num_attention_heads": 4, "head_dim": 12,
        "num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
    }  # fmt: skip
    torch.manual_seed(0)
    llama = transformers.LlamaForCausalLM(transformers.LlamaConfig(**text))
    with np.load(GOLDEN) as golden:
        weights = {name: torch.from_numpy(np.array(golden[name])) for name in golden.files if name.startswith("vision")}
    weights |= {f"language_model.{name}": value for name, value in llama.state_dict().items()}
    for layer, (wide, out) in enumerate(((32, 128), (128, 48), (48, 48)), start=1):
        weights |= {
            f"projector.fc{layer}.weight": torch.randn(out, wide) * 0.1,
            f"projector.fc{layer}.bias": torch.zeros(out),
        }
    save_file({name: value.contiguous() for name, value in weights.items()}, tmp_path / "model.safetensors")
    config = {
        "model_type": "openvla", "timm_model_ids": ["tiny_dinov2", "tiny_siglip"], "image_sizes": [32, 32],
        "timm_override_act_layers": [None, None], "text_config": {**text, "model_type": "llama"},
        "n_action_bins": 256, "pad_to_multiple_of": 8, "image_resize_strategy": "resize-naive",
        "norm_stats": {"bridge_orig": {"action": STATISTICS}, "fractal": {"action": STATISTICS}},
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[unk]": 0, "<s>": 1}, unk_token="[unk]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_it_acts_in_the_units_of_its_dataset(directory: Path) -> None:
    """Kim et al. 2024, `predict_action`: 0.5 (a + 1) (q99 - q01) + q01 where the mask is true, a where it is not."""
    found = openvla(directory, Choices(unnorm_key="bridge_orig"))
    assert str(found.said) == "cameras: ? of any size; vectors: none; action (3); an instruction"
    made = found.imported(robot())
    network = Network(made.policy, made.spec)
    network.load_state_dict(dict(made.weights), strict=True)
    policy = ComposedPolicy(made.policy, made.spec, network)
    image = np.random.default_rng(0).integers(0, 256, (1, 1, 32, 32, 3), np.uint8)
    action = policy.act({"image.camera0": image, "instruction": ["push the cup"]}).action
    assert action.shape == (1, 1, 3)
    low, high = np.array(STATISTICS["q01"][:2]), np.array(STATISTICS["q99"][:2])
    centres = np.linspace(-1, 1, 256)[:-1] + 1 / 255
    for value, first, last in zip(action[0, 0], (*low, -1.0), (*high, 1.0), strict=True):
        assert np.abs(first + (centres + 1) / 2 * (last - first) - value).min() < 1e-5
    scale = made.policy.transforms[1]
    back = scale.inverse(np.array([[[-1.0, 1.0, 0.3]]], np.float32), None)
    assert back[0, 0] == pytest.approx([-0.5, 0.25, 0.3])


def test_statistics_beside_the_model_come_first(directory: Path) -> None:
    own = {"libero": {"action": {**STATISTICS, "q99": [2.5, 0.25, 1.0]}}}
    (directory / "dataset_statistics.json").write_text(json.dumps(own))
    found = openvla(directory, Choices())
    assert found.imported(robot()).facts["unnorm_key"] == "libero"
    assert [path.name for path in found.files][1] == "dataset_statistics.json"


@pytest.mark.parametrize(
    ("change", "key", "message"),
    [
        ({}, None, "several datasets: bridge_orig, fractal\nfix: --unnorm-key"),
        ({}, "bridge", "unknown dataset with statistics 'bridge'; did you mean 'bridge_orig'"),
        ({"norm_stats": {}}, None, "nothing says how actions scale"),
        ({"norm_stats": {"one": {"action": {"mean": [0.0]}}}}, None, "have no q01 and q99"),
        ({"norm_stats": {"one": {"action": {"q01": [0.0], "q99": [1.0, 2.0]}}}}, None, "no finite lists of one length"),
        ({"image_resize_strategy": "letterbox"}, "fractal", "'image_resize_strategy' is 'letterbox'"),
    ],
)
def test_what_is_not_said_or_not_known(directory: Path, change: Any, key: str | None, message: str) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(KinemaError, match=message):
        openvla(directory, Choices(unnorm_key=key))


def test_pickled_heads_and_other_cameras_are_refused(directory: Path) -> None:
    with pytest.raises(SpecMismatch, match="OpenVLA sees one camera, the robot has 2"):
        openvla(directory, Choices(unnorm_key="fractal")).imported(robot(2))
    (directory / "action_head--1000_checkpoint.pt").touch()
    with pytest.raises(CheckpointError, match=r"action_head--1000_checkpoint\.pt is a pickle"):
        openvla(directory, Choices(unnorm_key="fractal"))
