"""pi0 and SmolVLA as wholes: published sizes, who reads the state, what is frozen, and a first lesson."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinema.checkpoints import backbones, layouts
from kinema.core.errors import KinemaError
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.core.transform import Chain
from kinema.heads.flow import Flow
from kinema.nets.base import Context
from kinema.nets.denoisers.expert import TINY_EXPERT, Expert
from kinema.nets.denoisers.interleaved_expert import InterleavedExpert
from kinema.nets.encoders.prompt import Prompt
from kinema.nets.encoders.vision_language import VisionLanguageEncoder
from kinema.nets.language.sizes import TINY
from kinema.nets.trunks.language_model import LanguageModel, LanguageModelTrunk
from kinema.policies.base import ComposedPolicy, PolicyConfig, to_tensor
from kinema.policies.network import Network
from kinema.policies.pi0 import pi0
from kinema.policies.smolvla import smolvla

PRESETS = {"pi0": pi0, "smolvla": smolvla}
LESSONS = {"pi0": 60, "smolvla": 60}
TEXTS = ["go on", "go on", "go up", "go down"]
"""What the first two ask for is in the picture: which half of it is bright."""
WAYS = np.array([[-0.8, 0.0], [0.8, 0.0], [0.0, 0.8], [0.0, -0.8]], np.float32)
ROBOT = RobotSpec(
    embodiment="toy",
    rate_hz=5.0,
    observation=ObservationSpec(
        cameras=(Camera(name="front", height=48, width=48),),
        vectors=(Vector(name="proprioception", components=("x", "y"), units=("m", "m"), frame="world"),),
        instruction=True,
    ),
    action=ActionSpec(
        components=("x", "y"), units=("m", "m"), frame="world", kind="delta", integrator="controller",
        low=(-1.0, -1.0), high=(1.0, 1.0),
    ),
)  # fmt: skip


def small(name: str, **options: Any) -> PolicyConfig:
    config = PRESETS[name](cameras=("front",), padded=4, pred_horizon=4, exec_horizon=4, **options)
    statistics = {"mean": np.zeros(2), "std": np.ones(2)}
    return config.fit(lambda before: {"action": statistics, "vector.proprioception": statistics})


def pictures() -> np.ndarray:
    images = np.zeros((4, 1, 48, 48, 3), np.uint8)
    images[[0, 2], :, :, :24] = 255
    images[[1, 3], :, :, 24:] = 255
    return images


def given(texts: list[str]) -> dict[str, Any]:
    return {
        "image.front": pictures(),
        "vector.proprioception": np.full((4, 1, 2), 0.5, np.float32),
        "instruction": texts,
    }


def sample_of(config: PolicyConfig) -> dict[str, Any]:
    """Return transformed samples: two pictures, three instructions, and what they ask for together."""
    whole = {**given(TEXTS), "action": np.repeat(WAYS[:, None], 4, 1), "mask": np.ones((4, 4), bool)}
    made, _ = Chain(config.transforms).forward(whole)
    return {key: to_tensor(value, torch.device("cpu")) for key, value in made.items()}


def network_of(config: PolicyConfig) -> Network:
    torch.manual_seed(0)
    return Network(config, ROBOT)


def published(name: str) -> Network:
    config = PRESETS[name](cameras=("front",), size="published", tokenizer="elsewhere")
    with torch.device("meta"):
        return Network(prompted(config, tokenizer="bytes"), ROBOT)


def prompted(config: PolicyConfig, **changes: Any) -> PolicyConfig:
    prompt = config.encoders["instruction"]
    assert isinstance(prompt, Prompt)
    return replace(config, encoders={**config.encoders, "instruction": replace(prompt, **changes)})


def weights(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_pi0_has_the_published_size() -> None:
    """3.3 B (Black et al. 2024, section IV).

    LeRobot 0.4.4's is 3 501 372 176 with 257 152 x 1024 for logits of words that the expert never says. PaliGemma is
    2 923 335 408 of it, the expert's layers are 311 464 960.
    """
    network = published("pi0")
    assert weights(network) == 3_501_372_176 - 257_152 * 1024 == 3_238_048_528
    assert weights(network) == pytest.approx(3.3e9, rel=0.02)
    assert weights(network.encoders["images"]) + weights(network.trunk) == 2_923_335_408
    assert weights(network.head.net.denoiser.model) == 311_464_960  # type: ignore[union-attr, arg-type]


def test_smolvla_has_the_published_size() -> None:
    """450 M (Shukor et al. 2025): all weights of LeRobot 0.4.4's, 47 308 800 of them for logits that it never uses."""
    network = published("smolvla")
    assert weights(network) == 450_046_176
    assert len(network.trunk.model.layers) == 16  # type: ignore[union-attr, arg-type]
    assert weights(network.encoders["images"]) + weights(network.trunk) == 350_165_184
    assert weights(network.head.net.denoiser.model) == 98_245_840  # type: ignore[union-attr, arg-type]


GEMMA = {
    "model_type": "gemma", "hidden_size": 2048, "intermediate_size": 16384, "num_hidden_layers": 18,
    "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 257_216,
}  # fmt: skip
SO400M = {
    "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
    "num_attention_heads": 16, "image_size": 224, "patch_size": 14,
}  # fmt: skip
SMOLLM2 = {
    "model_type": "llama", "hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 32,
    "num_attention_heads": 15, "num_key_value_heads": 5, "head_dim": 64, "vocab_size": 49_280, "rms_norm_eps": 1e-5,
    "rope_theta": 100_000.0,
}  # fmt: skip
SMOLVLM = {
    "model_type": "smolvlm_vision", "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "image_size": 512, "patch_size": 16,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "pi0": {"model_type": "paligemma", "text_config": GEMMA, "vision_config": SO400M},
    "smolvla": {
        "model_type": "smolvlm", "text_config": SMOLLM2, "vision_config": SMOLVLM, "scale_factor": 4,
        "tie_word_embeddings": False,
    },
}  # fmt: skip
"""What config.json says of google/paligemma-3b-pt-224 and HuggingFaceTB/SmolVLM2-500M-Video-Instruct."""


@pytest.mark.parametrize("name", PRESETS)
def test_a_published_size_takes_the_backbone_that_it_is_named_after(name: str) -> None:
    network = published(name)
    eyes, trunk = network.encoders["images"], network.trunk
    assert isinstance(eyes, VisionLanguageEncoder) and isinstance(trunk, LanguageModelTrunk)
    head = trunk.lm_head is not None
    backbones._compare(layouts.read(CONFIGS[name]), eyes.config, trunk, head=head, path=Path("there"))


@pytest.mark.parametrize("name", PRESETS)
def test_a_published_size_is_trained_as_published(name: str) -> None:
    config = PRESETS[name](cameras=("front",), size="published", tokenizer="elsewhere")
    assert isinstance(config.head, Flow) and isinstance(config.trunk, LanguageModel)
    assert (config.pred_horizon, config.exec_horizon, config.head.draws) == (50, 50, 1)
    frozen = name == "smolvla"
    assert config.trunk.frozen == frozen
    assert config.encoders["images"].frozen == ("all" if frozen else "nothing")  # type: ignore[attr-defined]
    given = PRESETS[name](cameras=("front",), size="published", tokenizer="elsewhere", pred_horizon=20, draws=3)
    assert (given.pred_horizon, given.exec_horizon, given.head.draws) == (20, 20, 3)  # type: ignore[attr-defined]


def test_an_expert_that_turns_keys_otherwise_than_the_trunk_is_refused() -> None:
    config = small("pi0")
    assert isinstance(config.head, Flow)
    other = Expert(size=replace(TINY_EXPERT, rope_theta=1e6))
    network = network_of(replace(config, head=replace(config.head, denoiser=other)))
    with pytest.raises(KinemaError, match=r"of rope_theta 1e\+06 cannot read keys that a trunk of rope_theta 10000"):
        network.loss(sample_of(config), torch.Generator())


@pytest.mark.parametrize("kind", [Expert, InterleavedExpert])
def test_an_expert_with_words_is_refused(kind: type[Expert] | type[InterleavedExpert]) -> None:
    with pytest.raises(KinemaError, match="its size has a vocabulary of 320"):
        kind(size=TINY).build(action_width=2, pred_horizon=4, width=128)


@pytest.mark.parametrize("name", PRESETS)
def test_a_published_size_needs_the_words_of_its_model(name: str) -> None:
    with pytest.raises(KinemaError, match="`tokenizer` must be a directory"):
        PRESETS[name](cameras=("front",), size="published")
    with pytest.raises(KinemaError, match=rf"unknown size of {name} 'publishd'; did you mean 'published'"):
        PRESETS[name](cameras=("front",), size="publishd")


@pytest.mark.parametrize(("name", "of_trunk"), [("pi0", 0), ("smolvla", 1)])
def test_the_state_is_the_experts_in_pi0_and_the_last_of_the_trunk_in_smolvla(name: str, of_trunk: int) -> None:
    config = small(name)
    network, sample = network_of(config).eval(), sample_of(config)
    plain = network_of(small(name, state=None))
    context = network.context(sample, torch.Generator())
    assert context.mask.shape[1] == plain.context(sample, torch.Generator()).mask.shape[1] + of_trunk
    assert (context.private is None) == bool(of_trunk)
    assert context.private is None or context.private.shape == (4, 1, 64)
    moved = network.context({**sample, "vector.proprioception": sample["vector.proprioception"] + 1}, torch.Generator())
    assert context.kv is not None and moved.kv is not None
    changed = torch.stack([(a - b).abs().amax((0, 1, 3)) for (a, _), (b, _) in zip(context.kv, moved.kv, strict=True)])
    expected = torch.zeros(context.mask.shape[1], dtype=torch.bool)
    expected[expected.shape[0] - of_trunk :] = True
    assert torch.equal((changed > 0).any(0), expected)


def test_a_frozen_smolvla_trains_its_expert_and_the_state_alone() -> None:
    config = small("smolvla", frozen=True)
    network = network_of(config).train()
    assert isinstance(config.trunk, LanguageModel) and config.trunk.frozen
    network.loss(sample_of(config), torch.Generator().manual_seed(0)).mean().backward()
    for name, parameter in network.named_parameters():
        learns = name.startswith(("head.", "encoders.state."))
        assert learns == parameter.requires_grad == (parameter.grad is not None and bool(parameter.grad.any())), name
    assert not network.trunk.training and not network.encoders["images"].towers.training  # type: ignore[union-attr]


def taught(config: PolicyConfig, steps: int) -> ComposedPolicy:
    """Return the policy after a few steps of training on what each instruction asks for."""
    network, sample = network_of(config), sample_of(config)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    rng = torch.Generator().manual_seed(0)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 1e-3 * min(1.0, (step + 1) / 10)
        optimiser.zero_grad()
        network.loss(sample, rng).mean().backward()
        optimiser.step()
    return ComposedPolicy(config, ROBOT, network)


@pytest.mark.parametrize("name", PRESETS)
def test_the_small_size_learns_to_do_what_it_sees_and_is_told(name: str) -> None:
    """Without words, without the picture, or with an expert that cannot read the trunk it does not."""
    policy = taught(prompted(small(name), length=12), LESSONS[name])
    told = error(policy, given(TEXTS))
    assert told.max() < 0.4, told
    silent = error(policy, given(TEXTS[:1] * 4))
    assert silent[2:].min() > 0.4, "the words say where in the last two"
    blind = error(policy, {**given(TEXTS), "image.front": pictures()[[1, 0, 3, 2]]})
    assert blind[:2].min() > 0.8, "the picture says where in the first two"
    network = policy.network
    whole = network.context

    def masked(*args: Any, **kwargs: Any) -> Context:
        context = whole(*args, **kwargs)
        assert context.kv is not None
        return replace(context, kv=tuple((key, 0 * value) for key, value in context.kv))

    network.context = masked  # type: ignore[method-assign]
    assert error(policy, given(TEXTS)).mean() > told.mean() + 0.2, "actions read the trunk"


def error(policy: ComposedPolicy, observation: dict[str, Any]) -> np.ndarray:
    """Return how far the first step of each entry is from what was asked."""
    policy.reset([0, 1, 2, 3], seeds=[1, 2, 3, 4])
    return np.abs(policy.act(observation).action[:, 0] - WAYS).max(-1)
