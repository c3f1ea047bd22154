"""Write lerobot_checkpoints/NAME: policies that LeRobot 0.4.4 saved itself, and the chunks they say in robot units.

    python tests/goldens/make_lerobot_checkpoints.py tests/goldens/lerobot_checkpoints

Of each directory that `save_pretrained` makes all is kept but model.safetensors, whose weights are those of
`filled.py`; golden.npz has their `names` and `shapes`, and the `chunk` for a batch of observations by formula, with
what was normalised on the way in and scaled back on the way out. The noise of Diffusion Policy is by formula too, and
VQ-BeT takes the likeliest codes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest import mock

import lerobot_shim  # noqa: F401 - must come before lerobot
import numpy as np
import torch
from filled import pixels, uniform, weights
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
from lerobot.policies.factory import make_pre_post_processors
from lerobot.policies.vqbet.configuration_vqbet import VQBeTConfig
from lerobot.policies.vqbet.modeling_vqbet import VQBeTPolicy
from torch import Tensor, nn

BATCH, STATE, ACTIONS = 2, 3, 2
HIGH, WIDE = 48, 64


def features(*cameras: str) -> dict[str, Any]:
    """Return the features of a robot with some cameras."""
    inputs = {"observation.state": PolicyFeature(type=FeatureType.STATE, shape=(STATE,))}
    for camera in cameras:
        inputs[f"observation.images.{camera}"] = PolicyFeature(type=FeatureType.VISUAL, shape=(3, HIGH, WIDE))
    outputs = {"action": PolicyFeature(type=FeatureType.ACTION, shape=(ACTIONS,))}
    return {"input_features": inputs, "output_features": outputs, "device": "cpu"}


def statistics(cameras: tuple[str, ...]) -> dict[str, dict[str, Tensor]]:
    """Return statistics of a dataset: numbers of the size that a robot has, ImageNet's for images."""
    made = {}
    for key, width in (("observation.state", STATE), ("action", ACTIONS)):
        low = uniform(f"{key}.min", (width,))
        high = low + 1 + uniform(f"{key}.max", (width,)) / 2
        made[key] = {"min": low, "max": high, "mean": (low + high) / 2, "std": 0.2 + (high - low) / 8}
    for camera in cameras:
        made[f"observation.images.{camera}"] = {
            "mean": np.array([0.485, 0.456, 0.406], np.float32).reshape(3, 1, 1),
            "std": np.array([0.229, 0.224, 0.225], np.float32).reshape(3, 1, 1),
            "min": np.zeros((3, 1, 1), np.float32),
            "max": np.ones((3, 1, 1), np.float32),
        }
    return {key: {n: torch.from_numpy(np.asarray(v)) for n, v in own.items()} for key, own in made.items()}


def fill(policy: nn.Module) -> None:
    """Give all weights their values; what is no weight stays."""
    with torch.no_grad():
        for name, value in policy.state_dict().items():
            if value.is_floating_point() and not name.endswith(("pos_enc", "pos_grid", ".attn.bias", "_indices")):
                value.copy_(torch.from_numpy(weights(name, value.shape)))


def observed(cameras: tuple[str, ...], step: int) -> dict[str, Tensor]:
    """Return what the robot sees at a step, in robot units, images in [0, 1]."""
    made = {"observation.state": torch.from_numpy(uniform(f"state{step}", (BATCH, STATE)))}
    for camera in cameras:
        image = torch.from_numpy(pixels(f"{camera}{step}", (BATCH, HIGH, WIDE, 3)))
        made[f"observation.images.{camera}"] = image.permute(0, 3, 1, 2).float() / 255
    return made


def said(policy: Any, before: Any, after: Any, cameras: tuple[str, ...], steps: int, count: int) -> Tensor:
    """Return `count` actions (B, H, A) in robot units after `steps` observations, asked for one by one."""
    policy.reset()
    noise = {} if not isinstance(policy, DiffusionPolicy) else {"noise": draw("noise", policy.config.horizon)}
    actions = []
    for step in range(steps - 1):
        policy.select_action(before(observed(cameras, step)), **noise)
        policy._queues["action"].clear()
    for _ in range(count):
        actions.append(after(policy.select_action(before(observed(cameras, steps - 1)), **noise)))
    return torch.stack(actions, dim=1)


def draw(name: str, horizon: int) -> Tensor:
    return torch.from_numpy(uniform(name, (BATCH, horizon, ACTIONS)))


def save(folder: Path, policy: Any, cameras: tuple[str, ...], steps: int, count: int) -> None:
    """Write one directory."""
    fill(policy)
    policy.eval()
    before, after = make_pre_post_processors(policy.config, dataset_stats=statistics(cameras))
    for part in (policy, before, after):
        part.save_pretrained(folder)
    with torch.no_grad(), mock.patch("torch.multinomial", lambda share, num_samples: share.argmax(-1, keepdim=True)):
        chunk = said(policy, before, after, cameras, steps, count)
    state = policy.state_dict()
    (folder / "model.safetensors").unlink()
    shapes = [",".join(str(size) for size in value.shape) for value in state.values()]
    np.savez_compressed(
        folder / "golden.npz", chunk=chunk.numpy(), names=np.array(list(state)), shapes=np.array(shapes)
    )


def act(folder: Path) -> None:
    """Two cameras."""
    small = {"dim_model": 32, "n_heads": 4, "dim_feedforward": 48, "n_encoder_layers": 2, "n_vae_encoder_layers": 1}
    cameras = ("top", "wrist")
    config = ACTConfig(
        **features(*cameras), **small, chunk_size=10, n_action_steps=6, pretrained_backbone_weights=None, latent_dim=8
    )
    save(folder, ACTPolicy(config), cameras, 1, 6)


def diffusion(folder: Path) -> None:
    """Two observed steps, the middle of the images, ten steps of DDIM."""
    cameras = ("top",)
    config = DiffusionConfig(
        **features(*cameras), down_dims=(16, 32), diffusion_step_embed_dim=16, crop_shape=(42, 55),
        noise_scheduler_type="DDIM", num_inference_steps=10,
    )  # fmt: skip
    save(folder, DiffusionPolicy(config), cameras, 2, 8)


def vqbet(folder: Path) -> None:
    """Five observed steps of one camera."""
    cameras = ("top",)
    config = VQBeTConfig(
        **features(*cameras), crop_shape=(42, 56), gpt_n_layer=2, gpt_n_head=4, gpt_hidden_dim=48, gpt_input_dim=48,
        gpt_output_dim=48, vqvae_embedding_dim=16, vqvae_enc_hidden_dim=24, gpt_block_size=60, n_obs_steps=3,
        action_chunk_size=4,
    )  # fmt: skip
    policy = VQBeTPolicy(config)
    vqvae = policy.vqbet.action_head.vqvae_model
    vqvae.discretized, vqvae.vq_layer.freeze_codebook = torch.tensor(True), torch.tensor(True)
    for layer in vqvae.vq_layer.layers:
        layer._codebook.initted.fill_(True)
    save(folder, policy, cameras, 3, 4)


if __name__ == "__main__":
    for make in (act, diffusion, vqbet):
        place = Path(sys.argv[1]) / make.__name__
        place.mkdir(parents=True, exist_ok=True)
        make(place)
