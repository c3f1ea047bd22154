"""OpenVLA, OpenVLA-OFT and pi0-FAST as wholes: what the language model reads, published sizes, and a first lesson."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from torch import nn

from kinema.actions.bins import Bins
from kinema.actions.fast import FAST
from kinema.core.errors import KinemaError
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.core.transform import Chain
from kinema.nets.language.tokenizers import ByteTokenizer
from kinema.nets.trunks.fusion import Fusion
from kinema.policies.base import ComposedPolicy, PolicyConfig, to_tensor
from kinema.policies.network import Network
from kinema.policies.openvla import openvla
from kinema.policies.openvla_oft import openvla_oft
from kinema.policies.pi0_fast import pi0_fast

PRESETS = {"openvla": openvla, "openvla_oft": openvla_oft, "pi0_fast": pi0_fast}
TEXTS = ["look look look", "look look look", "up up up up up", "down down down"]
"""What the first two ask for is in the picture: which half of it is bright."""
WAYS = np.array([[-0.8, 0.0], [0.8, 0.0], [0.0, 0.8], [0.0, -0.8]], np.float32)


PICTURES = np.zeros((4, 1, 48, 48, 3), np.uint8)
PICTURES[[0, 2], :, :, :24] = 255
PICTURES[[1, 3], :, :, 24:] = 255


def robot_of(size: int, actions: int) -> RobotSpec:
    names = tuple(f"a{index}" for index in range(actions))
    observation = ObservationSpec(
        cameras=(Camera(name="front", height=size, width=size),),
        vectors=(Vector(name="proprioception", components=("x", "y"), units=("m", "m"), frame="world"),),
        instruction=True,
    )
    action = ActionSpec(
        components=names, units=("m",) * actions, frame="world", kind="delta", integrator="c",
        low=(-1.0,) * actions, high=(1.0,) * actions,
    )  # fmt: skip
    return RobotSpec(embodiment="toy", rate_hz=5.0, observation=observation, action=action)


def fitted(config: PolicyConfig, actions: int) -> PolicyConfig:
    """Return the configuration for actions and states that are scaled already."""

    ends = {"q01": -1.0, "q99": 1.0, "min": -1.0, "max": 1.0}

    def one(width: int) -> dict[str, np.ndarray]:
        return {name: np.full(width, value) for name, value in ends.items()}

    def chunks(chain: Chain) -> tuple[np.ndarray, np.ndarray]:
        return np.repeat(WAYS[:, None], config.pred_horizon, 1), np.ones((4, config.pred_horizon), bool)

    return config.fit(lambda before: {"action": one(actions), "vector.proprioception": one(2)}, chunks)


def sample_of(config: PolicyConfig, rows: int = 4) -> dict[str, Any]:
    """Return transformed samples: two pictures, three instructions, and what they ask for together."""
    given = {
        "image.front": PICTURES[:rows],
        "vector.proprioception": np.zeros((rows, 1, 2), np.float32),
        "instruction": TEXTS[:rows],
        "action": np.repeat(WAYS[:rows, None], config.pred_horizon, 1),
        "mask": np.ones((rows, config.pred_horizon), bool),
    }
    transformed, _ = Chain(config.transforms).forward(given)
    return {key: to_tensor(value, torch.device("cpu")) for key, value in transformed.items()}


def network_of(config: PolicyConfig) -> Network:
    torch.manual_seed(0)
    return Network(config, robot_of(48, 2))


def test_openvla_is_transformers_llama_over_the_begin_the_patches_the_question_and_the_answer() -> None:
    transformers = pytest.importorskip("transformers")
    config = fitted(openvla(cameras=("front",)), 2)
    network, sample, size = network_of(config).eval(), sample_of(config), config.trunk.size
    llama = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=size.vocabulary, hidden_size=size.width, intermediate_size=size.hidden,
            num_hidden_layers=size.layers, num_attention_heads=size.heads, num_key_value_heads=size.kv_heads,
            head_dim=size.head_width, rms_norm_eps=size.norm_eps, tie_word_embeddings=True,
        )
    ).eval()  # fmt: skip
    missing = llama.load_state_dict(network.trunk.state_dict(), strict=False)
    assert missing.missing_keys == ["lm_head.weight"] and not missing.unexpected_keys, "the tied embedding alone"
    llama.tie_weights()
    patches = network.encoders["images"](sample, None).values
    losses = []
    for row, text in enumerate(TEXTS):
        question = f"In: What action should the robot take to {text}?\nOut:"
        answer = [*(size.vocabulary - 1 - Bins(convention="openvla").encode(WAYS[row])).tolist(), ByteTokenizer.END]
        words = torch.tensor([ByteTokenizer.BEGIN, *question.encode(), *answer])
        embedded = llama.get_input_embeddings()(words)
        read = torch.cat([embedded[:1], patches[row], embedded[1:]])[None]
        labels = torch.full((1, read.shape[1]), -100)
        labels[0, -len(answer) :] = torch.tensor(answer)
        losses.append(llama(inputs_embeds=read, labels=labels).loss)
    own = network.loss(sample, torch.Generator())
    assert torch.allclose(own[:, 0], torch.stack(losses), atol=1e-5)


def test_pi0_fast_says_the_state_before_and_the_chunk_after() -> None:
    config = fitted(pi0_fast(cameras=("front",)), 2)
    assert isinstance(config.head.codec, FAST)
    network, sample = network_of(config), sample_of(config)
    words = network.encoders["instruction"](sample, None)
    bytes_read = ByteTokenizer()
    said = bytes_read.decode(words.ids[1][words.mask[1]].tolist())
    assert said == "Task: look look look, State: 128 128;\n" and words.ids[1, 0] == ByteTokenizer.BEGIN
    assert bytes_read.decode(config.head.before) == "Action: " and bytes_read.decode(config.head.after) == "|"
    assert config.head.after[-1] == ByteTokenizer.END and config.head.learns_before
    published = pi0_fast(cameras=("front",), size="published", tokenizer="/nowhere").head
    assert (published.reserved, published.before, published.after) == (128, (4022, 235_292, 235_248), (235_371, 1))


def test_oft_reads_the_state_as_a_token_of_its_own() -> None:
    config = fitted(openvla_oft(cameras=("front",)), 2)
    network = network_of(config)
    assert list(network.encoders) == ["begin", "images", "state", "instruction"]
    assert [encoder.tokens for encoder in network.encoders.values()] == [1, 36, 1, 96]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # Kim et al. 2024: a Llama-2 of 7 billion and towers of 0.6; stored are 7.54 billion with the blocks of the
        # towers that are not read.
        ("openvla", 7.54e9),
        # The same, and a network of 151 million behind the slots: 28672 x 4096 and two of 4096 x 4096; 17 million read
        # the state.
        ("openvla_oft", 7.54e9 + 0.151e9 + 0.017e9),
        # Beyer et al. 2024, PaliGemma: SigLIP of 0.4 billion and Gemma of 2.5.
        ("pi0_fast", 2.92e9),
    ],
)
def test_published_sizes(name: str, parameters: float, tmp_path: Path) -> None:
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "<s>": 1}, unk_token="a"))
    words.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    (tmp_path / "tokenizer.json").write_text(words.to_str(), "utf-8")
    config = PRESETS[name](cameras=("front",), size="published", tokenizer=str(tmp_path))
    if name == "pi0_fast":
        config = replace(config, head=fitted(pi0_fast(cameras=("front",)), 2).head)
    spec = robot_of(224, 7)
    with torch.device("meta"):
        network = Network(config, config.needs(spec))
    counted = sum(parameter.numel() for parameter in network.parameters())
    assert abs(counted / parameters - 1) <= 0.02, f"{counted:,}"
    with pytest.raises(KinemaError, match="`tokenizer` must be a directory with"):
        PRESETS[name](cameras=("front",), size="published")
    with pytest.raises(KinemaError, match=rf"unknown size of {name} 'publised'; did you mean 'published'\?"):
        PRESETS[name](cameras=("front",), size="publised")


def lesson(config: PolicyConfig, steps: int) -> ComposedPolicy:
    """Return a policy that was taught to do what each of four instructions says."""
    network, sample = network_of(config), sample_of(config)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 1e-3 * min(1.0, (step + 1) / 10)
        loss = network.loss(sample, torch.Generator().manual_seed(step)).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
    return ComposedPolicy(config, robot_of(48, 2), network)


# The absolute error rests for a while where all four ways have their median, in the middle.
LESSONS = [("openvla", 80), ("pi0_fast", 120), pytest.param("openvla_oft", 250, marks=pytest.mark.slow)]


@pytest.mark.parametrize(("name", "steps"), LESSONS)
def test_it_learns_to_do_what_it_sees_and_is_told(name: str, steps: int) -> None:
    """Half of the layers, and short prompts, so that it takes seconds; another picture is another way."""
    config = PRESETS[name](cameras=("front",), words=70, pred_horizon=2, exec_horizon=2)
    config = fitted(replace(config, trunk=replace(config.trunk, layers=2)), 2)
    policy = lesson(config, steps)

    def error(seen: list[int], told: list[int], asked: list[int]) -> np.ndarray:
        """Return how far each entry, of these pictures and texts, is from the way that is asked for."""
        given = {
            "image.front": PICTURES[seen],
            "vector.proprioception": np.zeros((4, 1, 2), np.float32),
            "instruction": [TEXTS[index] for index in told],
        }
        action = policy.act({key: given[key] for key in config.reads}).action
        return np.abs(action - WAYS[asked, None]).max((1, 2))

    for order in ([0, 1, 2, 3], [2, 3, 1, 0]):
        assert error(order, order, order).max() < 0.4
    assert error([1, 0, 3, 2], [0, 1, 2, 3], [0, 1, 2, 3])[:2].min() > 0.8, "the picture says where in the first two"
    assert error([0, 1, 2, 3], [0, 1, 0, 1], [0, 1, 2, 3])[2:].min() > 0.4, "and the words in the others"


def test_a_trunk_that_cannot_go_on_is_refused_when_the_network_is_built() -> None:
    config = openvla(cameras=("front",))
    with pytest.raises(KinemaError, match="TextTokens goes on with the trunk where the prompt ends"):
        network_of(replace(config, trunk=Fusion()))
