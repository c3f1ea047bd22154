"""Adapters on a published backbone: what is not in the publication is kept with the adapters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("peft")

import transformers

from kinema.core.config import TRUSTED
from kinema.core.errors import CheckpointError, KinemaError
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.deploy.load import attach, begin
from kinema.heads.regression import Regression
from kinema.nets.adapters import adapt
from kinema.nets.ema import named_weights
from kinema.nets.encoders.prompt import Prompt
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.encoders.vision_language import VisionLanguage
from kinema.nets.language.sizes import Decoder
from kinema.nets.lora import Adapter, Lora, digest
from kinema.nets.towers.sizes import TINY_SIGLIP
from kinema.nets.trunks.language_model import LanguageModel
from kinema.policies.base import PolicyConfig
from kinema.policies.network import Network, fingerprint
from kinema.recipes._start import Beginning
from kinema.train.weights import load_weights, save_weights

SIZE = Decoder(family="gemma", layers=2, width=48, hidden=64, heads=4, kv_heads=1, head_width=12, vocabulary=320)
ROBOT = RobotSpec(
    embodiment="testarm",
    rate_hz=10.0,
    observation=ObservationSpec(
        cameras=(Camera(name="front", height=32, width=32),),
        vectors=(Vector(name="proprioception", components=("x",), units=("m",), frame="world"),),
        instruction=True,
    ),
    action=ActionSpec(
        components=("x",), units=("m",), frame="world", kind="delta", integrator="controller", low=(-1.0,), high=(1.0,)
    ),
)
POLICY = PolicyConfig(
    encoders={
        "eyes": VisionLanguage(cameras=("front",), towers=(TINY_SIGLIP,)),
        "words": Prompt(length=12),
        "state": Proprioception(hidden=4),
    },
    trunk=LanguageModel(size=SIZE),
    head=Regression(blocks=1),
    width=48,
    pred_horizon=2,
    exec_horizon=1,
)
LORA = Lora(rank=2, targets=("trunk.*.q_proj", "encoders.eyes.*.v_proj"))


def network(seed: int) -> Network:
    torch.manual_seed(seed)
    return Network(POLICY, ROBOT).eval()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PaliGemma of a few thousand weights, as `transformers` saves it."""
    folder = tmp_path_factory.mktemp("published") / "backbone"
    torch.manual_seed(7)
    config = transformers.PaliGemmaConfig(
        vision_config={"image_size": 32, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                       "intermediate_size": 64, "model_type": "siglip_vision_model", "patch_size": 8,
                       "vision_use_head": False},
        text_config={"vocab_size": 320, "hidden_size": 48, "intermediate_size": 64, "num_attention_heads": 4,
                     "head_dim": 12, "model_type": "gemma", "num_hidden_layers": 2, "num_key_value_heads": 1},
        projection_dim=48, hidden_size=48, image_token_index=319,
    )  # fmt: skip
    transformers.PaliGemmaForConditionalGeneration(config).save_pretrained(folder)
    return folder


def sample() -> dict[str, Any]:
    rng = torch.Generator().manual_seed(0)
    return {
        "image.front": torch.randint(0, 255, (2, 1, 32, 32, 3), generator=rng, dtype=torch.uint8),
        "vector.proprioception": torch.randn(2, 1, 1, generator=rng),
        "instruction": ["push it", "open"],
    }


def acted(one: Network) -> torch.Tensor:
    with torch.no_grad():
        return one.head.sample(one.context(sample(), torch.Generator()), rng=torch.Generator())


def test_adapters_on_a_published_backbone_are_found_again(published: Path, tmp_path: Path) -> None:
    own = network(0)
    filled = begin(own, published)
    weights = named_weights(own)
    anew = weights.keys() - filled
    assert anew and {name.split(".")[0] for name in anew} == {"encoders", "head"}
    assert all(name.startswith(("encoders.state.", "head.")) for name in anew)
    adapter = Adapter(lora=LORA, base="../backbone", sha256=digest({name: weights[name] for name in filled}))
    assert len(adapt(own, LORA, own=anew)) == 2 + 2
    with torch.no_grad():
        for parameter in own.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05)
    save_weights(named_weights(own), tmp_path / "weights.safetensors")
    (published.parent / "run").mkdir(exist_ok=True)
    again = network(1)
    attach(again, adapter, published.parent / "run")
    load_weights(again, tmp_path / "weights.safetensors")
    assert torch.equal(acted(again), acted(own))
    assert fingerprint(POLICY, ROBOT, again) == fingerprint(POLICY, ROBOT, own)
    assert not torch.equal(acted(own), acted(network(0)))
    other = replace(adapter, sha256="0" * 64)
    with pytest.raises(CheckpointError, match="holds adapters for another base"):
        attach(network(0), other, published.parent / "run")


def test_fresh_parts_of_a_published_backbone_are_refused(published: Path) -> None:
    with pytest.raises(KinemaError, match="is a published backbone, beside which all is fresh"):
        begin(network(0), published, fresh=("head",))


def test_parts_beside_a_published_backbone_must_train(published: Path) -> None:
    begins = Beginning(start=str(published), fresh=(), lora=LORA, seed=0)
    expected = r"encoders\.state would stay as drawn .*\nfix: --adapt.train head encoders.state$"
    with pytest.raises(KinemaError, match=expected):
        begins.network(POLICY, ROBOT, TRUSTED)
    all_train = replace(begins, lora=replace(LORA, train=("head", "encoders.state")))
    assert all_train.network(POLICY, ROBOT, TRUSTED)[1] is not None
