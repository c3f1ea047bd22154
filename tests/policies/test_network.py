"""What the network does itself: training hides cameras, a head keeps an encoder, precision and memory are chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kinema.core.errors import KinemaError
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.core.transform import Chain
from kinema.heads.cvae import Cvae
from kinema.heads.regression import Regression
from kinema.nets.base import EncoderConfig
from kinema.nets.encoders.prompt import Prompt
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.encoders.t5 import T5
from kinema.nets.encoders.vision_language import VisionLanguage, VisionLanguageEncoder
from kinema.nets.noise import Rng
from kinema.nets.trunks.identity import Identity
from kinema.nets.trunks.language_model import LanguageModel
from kinema.policies.base import PolicyConfig
from kinema.policies.network import Network
from kinema.policies.openvla import openvla
from kinema.policies.openvla_oft import openvla_oft
from kinema.policies.pi0 import pi0
from kinema.policies.pi0_fast import pi0_fast
from kinema.policies.smolvla import smolvla

CAMERAS = ("front", "wrist")
VECTORS = ("action", "vector.proprioception")
ROBOT = RobotSpec(
    embodiment="toy",
    rate_hz=5.0,
    observation=ObservationSpec(
        cameras=tuple(Camera(name=name, height=32, width=32) for name in CAMERAS),
        vectors=(Vector(name="proprioception", components=("x", "y"), units=("m", "m"), frame="world"),),
        instruction=True,
    ),
    action=ActionSpec(
        components=("dx", "dy"),
        units=("m", "m"),
        frame="world",
        kind="delta",
        integrator="c",
        low=(-1.0, -1.0),
        high=(1.0, 1.0),
    ),
)
SPEAKING = (pi0, smolvla, pi0_fast, openvla, openvla_oft)


def network_of(config: PolicyConfig) -> Network:
    torch.manual_seed(0)
    return Network(config, config.needs(ROBOT))


def seeing(dropout: float, **encoders: EncoderConfig) -> PolicyConfig:
    images = VisionLanguage(cameras=CAMERAS, dropout=dropout)
    return PolicyConfig(encoders={"images": images, **encoders}, trunk=Identity(), head=Regression(), width=16)


def sample(batch: int, config: PolicyConfig | None = None) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    raw: dict[str, Any] = {f"image.{name}": rng.integers(0, 256, (batch, 1, 32, 32, 3), np.uint8) for name in CAMERAS}
    raw["vector.proprioception"] = rng.normal(size=(batch, 1, 2)).astype(np.float32)
    raw["instruction"] = ["open the drawer", "push"] * (batch // 2)
    if config is not None:
        raw["action"] = rng.uniform(-1, 1, (batch, config.pred_horizon, 2)).astype(np.float32)
        raw["mask"] = np.ones((batch, config.pred_horizon), bool)
        raw, _ = Chain(config.transforms).forward(raw)
    return {key: torch.from_numpy(np.array(v)) if isinstance(v, np.ndarray) else v for key, v in raw.items()}


def masks(network: Network, batch: int, rng: Rng) -> Tensor:
    """Return which tokens (B, cameras, tokens) the trunk finds present."""
    images = network.encoders["images"]
    assert isinstance(images, VisionLanguageEncoder)
    images.patches = lambda pixels: torch.zeros(len(pixels), 4, 4, 32)  # type: ignore[method-assign]
    return network.context(sample(batch), rng).mask.view(batch, 2, -1)


def test_training_hides_whole_cameras_but_never_all_of_an_encoder() -> None:
    network = network_of(seeing(0.25)).train()
    mask = masks(network, 2000, torch.Generator().manual_seed(0))
    assert torch.equal(mask, mask[:, :, :1].expand_as(mask)), "all tokens of a camera, or none"
    # One alone is hidden with chance 0.25 * 0.75; of both hidden, 0.25 * 0.25, either comes back.
    assert (1 - mask[:, :, 0].float().mean(0)).tolist() == pytest.approx([0.21875] * 2, abs=0.03)
    assert mask.any(2).any(1).all() and masks(network.eval(), 8, torch.Generator()).all()


def test_training_hides_a_vector() -> None:
    network = network_of(seeing(0.0, state=Proprioception(dropout=0.5))).train()
    mask = network.context(sample(200), torch.Generator().manual_seed(0)).mask
    assert mask[:, :-1].all() and 0.4 < mask[:, -1].float().mean() < 0.6
    assert network.eval().context(sample(200), torch.Generator().manual_seed(0)).mask.all()


def test_what_is_hidden_is_drawn_from_the_generator_of_each_entry() -> None:
    network = network_of(seeing(0.5)).train()

    def drawn(seeds: range) -> Tensor:
        return masks(network, len(seeds), [torch.Generator().manual_seed(seed) for seed in seeds])

    torch.manual_seed(1)
    whole = drawn(range(20))
    torch.manual_seed(2)
    assert torch.equal(whole[10:], drawn(range(10, 20))) and not whole.all()


def test_what_is_hidden_or_speaks_is_not_for_a_head_to_keep(tiny_t5: Callable[..., Any]) -> None:
    for kept, said in (
        (Prompt(), "gives words, which only a trunk embeds"),
        (T5(model=str(tiny_t5())), "gives tokens that may be absent"),
        (Proprioception(dropout=0.5), "gives tokens that may be absent"),
    ):
        config = seeing(0.0, kept=kept)
        config = replace(config, head=Cvae(state="kept", heads=2, hidden=8), trunk=LanguageModel(), width=128)
        with pytest.raises(KinemaError, match=f"the head keeps encoder 'kept' for itself, but it {said}\nfix: "):
            network_of(config)


def scaled(config: PolicyConfig) -> PolicyConfig:
    """Return the configuration for numbers that are of size 1 already."""
    names = {"mean": 0.0, "std": 1.0, "min": -1.0, "max": 1.0, "q01": -1.0, "q99": 1.0}
    statistics = {key: {name: np.full(2, value) for name, value in names.items()} for key in VECTORS}

    def chunks(chain: Chain) -> tuple[np.ndarray, np.ndarray]:
        shape = (64, config.pred_horizon, 2)
        return np.random.default_rng(1).uniform(-1, 1, shape), np.ones(shape[:2], bool)

    return config.fit(lambda before: statistics, chunks)


def loss_of(config: PolicyConfig, precision: torch.dtype) -> tuple[Tensor, dict[str, Tensor]]:
    network = network_of(config).train()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
        loss = network.loss(sample(2, config), torch.Generator().manual_seed(0)).mean()
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("preset", SPEAKING, ids=lambda preset: preset.__name__)
def test_a_loss_in_bf16_and_one_computed_again_are_that_in_float32(preset: Callable[..., PolicyConfig]) -> None:
    config = scaled(preset(cameras=("front",)))
    loss, gradients = loss_of(config, torch.float32)
    again = replace(config, trunk=replace(config.trunk, gradient_checkpointing=True))  # type: ignore[type-var]
    same, others = loss_of(again, torch.float32)
    assert torch.equal(loss, same) and others.keys() == gradients.keys()
    assert all(torch.allclose(others[name], gradients[name], atol=1e-6) for name in gradients)
    rough, others = loss_of(again, torch.bfloat16)
    assert rough.dtype == torch.float32 and rough.item() == pytest.approx(loss.item(), rel=0.03)
    assert others.keys() == gradients.keys() and all(torch.isfinite(value).all() for value in others.values())
