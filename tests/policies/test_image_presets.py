"""The presets with images learn where to go from what they see, and without it know no more than chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from kinema.core.errors import KinemaError, SpecMismatch
from kinema.core.spec import RobotSpec
from kinema.heads.cvae import Cvae
from kinema.nets.encoders.words import Words
from kinema.policies.act import act
from kinema.policies.base import PolicyConfig
from kinema.policies.diffusion_policy import diffusion_policy
from kinema.policies.network import Network
from kinema.policies.vq_bet import vq_bet

CAMERAS = ("camera0",)
SIZE, CHANCE = 24, 0.35
"""CHANCE is the mean distance of a coordinate, uniform in [-0.7, 0.7], from 0."""

PRESETS: dict[str, Callable[..., PolicyConfig]] = {
    "act": lambda **given: act(pred_horizon=8, **given),
    "cnn": lambda **given: diffusion_policy(pred_horizon=8, obs_horizon=1, **given),
    "transformer": lambda **given: diffusion_policy(pred_horizon=8, obs_horizon=1, denoiser="transformer", **given),
    "vq_bet": lambda **given: vq_bet(quantiser_steps=100, obs_horizon=1, **given),
}


def scenes(config: PolicyConfig, count: int, seed: int) -> dict[str, Tensor]:
    """Return pictures of a bright square; the chunk goes to it at once. What the state holds says nothing."""
    rng = torch.Generator().manual_seed(seed)
    goal = torch.rand(count, 2, generator=rng) * 1.4 - 0.7
    images = torch.randint(0, 60, (count, config.obs_horizon, SIZE, SIZE, 3), generator=rng, dtype=torch.uint8)
    corner = ((goal + 1) / 2 * (SIZE - 4)).long()
    for number, (x, y) in enumerate(corner.tolist()):
        images[number, :, y : y + 4, x : x + 4] = torch.tensor([250, 60, 60], dtype=torch.uint8)
    return {
        "image.camera0": images,
        "vector.state": torch.randn(count, config.obs_horizon, 3, generator=rng),
        "action": goal[:, None].expand(-1, config.pred_horizon, -1).clone(),
        "mask": torch.ones(count, config.pred_horizon, dtype=torch.bool),
    }


def trained(config: PolicyConfig, spec: RobotSpec, steps: int, rate: float) -> Network:
    torch.manual_seed(0)
    network, rng = Network(config, spec), torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate)
    everything = scenes(config, 1024, 1)
    for _ in range(steps):
        chosen = torch.randint(0, 1024, (32,), generator=rng)
        optimiser.zero_grad()
        network.loss({key: value[chosen] for key, value in everything.items()}, rng).mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
    return network.eval()


@torch.no_grad()
def error(network: Network, sample: dict[str, Tensor]) -> float:
    rng = torch.Generator().manual_seed(3)
    seen = {key: value for key, value in sample.items() if key not in ("action", "mask")}
    chunk = network.head.sample(network.context(seen, rng), rng=rng)
    return float((chunk - sample["action"]).abs().mean())


def toy(name: str, **changes: Any) -> PolicyConfig:
    return replace(PRESETS[name](**{"cameras": CAMERAS, "state": "state", **changes}), transforms=())


def check(name: str, steps: int, rate: float, spec: RobotSpec, *, share: float = 0.4) -> None:
    config = toy(name)
    network, held_out = trained(config, spec, steps, rate), scenes(config, 64, 2)
    assert error(network, held_out) < share * CHANCE
    other = {**held_out, "image.camera0": held_out["image.camera0"].flip(0)}
    assert error(network, other) > 0.9 * CHANCE, "it goes where another picture says: it looks"


def test_act_goes_where_the_picture_says(image_spec: Callable[[int, int], RobotSpec]) -> None:
    check("act", 100, 5e-4, image_spec(1, SIZE))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "steps"), [("cnn", 250), ("transformer", 500)])
def test_diffusion_policy_goes_where_the_picture_says(
    name: str, steps: int, image_spec: Callable[[int, int], RobotSpec]
) -> None:
    check(name, steps, 1e-3, image_spec(1, SIZE))


@pytest.mark.slow
def test_vq_bet_goes_where_the_picture_says(image_spec: Callable[[int, int], RobotSpec]) -> None:
    check("vq_bet", 700, 1e-3, image_spec(1, SIZE), share=0.6)


@pytest.mark.parametrize("name", PRESETS)
def test_an_instruction_is_one_more_token(name: str, image_spec: Callable[[int, int], RobotSpec]) -> None:
    config = toy(name, language=Words())
    spec = image_spec(1, SIZE)
    told = replace(spec, observation=replace(spec.observation, instruction=True))
    network = Network(config, told)
    sample = scenes(config, 2, 1) | {"instruction": ["go left", "go right"]}
    network.loss(sample, torch.Generator()).sum().backward()
    config = toy(name, state=None)
    assert config.reads == ("image.camera0",)
    Network(config, spec).loss(scenes(config, 2, 1), torch.Generator()).sum().backward()


@pytest.mark.parametrize("preset", [act, diffusion_policy, vq_bet])
def test_unknown_sizes_are_refused(preset: Callable[..., PolicyConfig]) -> None:
    with pytest.raises(KinemaError, match=f"unknown size of {preset.__name__} 'publishd'; did you mean 'published'"):
        preset(cameras=CAMERAS, size="publishd")


def test_what_does_not_fit_diffusion_policy_is_refused(image_spec: Callable[[int, int], RobotSpec]) -> None:
    with pytest.raises(KinemaError, match="unknown diffusion_policy denoiser 'unet'"):
        diffusion_policy(cameras=CAMERAS, denoiser="unet")
    narrow = replace(toy("cnn"), width=2)
    with pytest.raises(SpecMismatch, match="vector 'state' of 3 numbers needs per_step and a width of as many"):
        Network(narrow, image_spec(1, SIZE))
    mixed = replace(toy("cnn"), head=Cvae())
    with pytest.raises(KinemaError, match="heads that give the trunk a token of their own need another trunk"):
        Network(mixed, image_spec(1, SIZE))
