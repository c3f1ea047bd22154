"""Write act.npz, diffusion_policy.npz and vq_bet.npz: whole policies of LeRobot 0.4.4 that look at images.

    python tests/goldens/policies/make_policies.py tests/goldens/policies

Weights and images are those of `filled.py`. ACT and VQ-BeT have the published sizes; Diffusion Policy has them under
`published/`, and a small U-Net else. `parameters` counts those of the published size with one camera of 96 x 96,
`gradient/<name>` are norms, `after` is what a step of SGD makes of the output, `names` and `shapes` are all that
LeRobot stores.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import lerobot_shim  # noqa: F401 - must come before lerobot
import numpy as np
import torch
from filled import pixels, uniform, weights
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACT, ACTPolicy
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
from lerobot.policies.diffusion.modeling_diffusion import DiffusionModel, DiffusionPolicy
from lerobot.policies.vqbet.configuration_vqbet import VQBeTConfig
from lerobot.policies.vqbet.modeling_vqbet import VQBeTModel, VQBeTPolicy
from torch import Tensor, nn

BATCH, STATE, ACTIONS = 2, 3, 2
IMAGENET = {"mean": (0.485, 0.456, 0.406), "deviation": (0.229, 0.224, 0.225)}
PLAIN = {"mean": (0.0, 0.0, 0.0), "deviation": (1.0, 1.0, 1.0)}


def features(cameras: int, pixels: int) -> dict[str, Any]:
    """Return LeRobot's features of a robot with some cameras."""
    inputs = {"observation.state": PolicyFeature(type=FeatureType.STATE, shape=(STATE,))}
    for camera in range(cameras):
        feature = PolicyFeature(type=FeatureType.VISUAL, shape=(3, pixels, pixels))
        inputs[f"observation.images.camera{camera}"] = feature
    outputs = {"action": PolicyFeature(type=FeatureType.ACTION, shape=(ACTIONS,))}
    return {"input_features": inputs, "output_features": outputs, "device": "cpu"}


def fill(policy: nn.Module) -> nn.Module:
    """Give all weights their values; what is no weight stays."""
    with torch.no_grad():
        for name, value in policy.state_dict().items():
            kept = name.endswith(("pos_enc", "pos_grid", ".attn.bias", "_indices"))
            if value.is_floating_point() and not kept:
                value.copy_(torch.from_numpy(weights(name, value.shape)))
    return policy


def seen(cameras: int, size: int, steps: int | None, scaling: dict[str, tuple[float, ...]]) -> dict[str, Tensor]:
    """Return what is observed; the images are scaled as LeRobot's processor does it."""
    lead = (BATCH,) if steps is None else (BATCH, steps)
    made = {"observation.state": torch.from_numpy(uniform("state", (*lead, STATE)))}
    mean, deviation = (torch.tensor(scaling[name]).view(3, 1, 1) for name in ("mean", "deviation"))
    for camera in range(cameras):
        image = torch.from_numpy(pixels(f"camera{camera}", (*lead, size, size, 3))).float() / 255
        made[f"observation.images.camera{camera}"] = (image.movedim(-1, -3) - mean) / deviation
    return made


def count(make: Any, config: Any) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in make(config).parameters())


def stored(policy: nn.Module) -> dict[str, np.ndarray]:
    state = policy.state_dict()
    shapes = [",".join(str(size) for size in value.shape) for value in state.values()]
    return {"names": np.array(list(state)), "shapes": np.array(shapes)}


def stepped(policy: nn.Module, loss: Tensor, rate: float) -> dict[str, Tensor]:
    """Return the gradients' norms, and take a step of SGD."""
    policy.zero_grad()
    loss.backward()
    torch.optim.SGD(policy.parameters(), lr=rate).step()
    return {f"gradient/{n}": p.grad.norm() for n, p in policy.named_parameters() if p.grad is not None}


def act() -> dict[str, Any]:
    """Two cameras of 64 x 64, dropout 0; the second chunk is padded."""
    config = ACTConfig(**features(2, 64), pretrained_backbone_weights=None, dropout=0.0)
    policy = fill(ACTPolicy(config))
    batch = seen(2, 64, None, IMAGENET)
    batch["action"] = torch.from_numpy(uniform("action", (BATCH, 100, ACTIONS)))
    batch["action_is_pad"] = torch.zeros(BATCH, 100, dtype=torch.bool)
    batch["action_is_pad"][1, 60:] = True
    noise = torch.from_numpy(uniform("noise", (BATCH, 32)))
    saved: dict[str, Any] = {"chunk": policy.predict_action_chunk(batch)}
    policy.train()
    with mock.patch("torch.randn_like", return_value=noise):
        saved["loss"], parts = policy(batch)
        saved |= stepped(policy, saved["loss"], 1e-3) | {"kl": torch.tensor(parts["kld_loss"])}
    saved["after"] = policy.predict_action_chunk(batch)
    one = ACTConfig(**features(1, 96), pretrained_backbone_weights=None)
    return saved | stored(policy) | {"parameters": torch.tensor(count(ACT, one))}


def diffusion_of(config: DiffusionConfig, rate: float) -> dict[str, Any]:
    """Return a denoiser's output, loss and, for the small one, a chunk and what a step of SGD does."""
    policy = fill(DiffusionPolicy(config))
    model = policy.diffusion
    batch = seen(len(config.image_features), 64, 2, IMAGENET)
    batch["observation.images"] = torch.stack([batch[key] for key in config.image_features], dim=-4)
    batch["action"] = torch.from_numpy(uniform("action", (BATCH, 16, ACTIONS)))
    batch["action_is_pad"] = torch.zeros(BATCH, 16, dtype=torch.bool)
    noise, k = torch.from_numpy(uniform("noise", (BATCH, 16, ACTIONS))), torch.tensor([7, 63])

    def output() -> Tensor:
        with torch.no_grad():
            return model.unet(noise, k, global_cond=model._prepare_global_conditioning(batch))

    saved: dict[str, Any] = {"denoised": output()}
    with mock.patch("torch.randn", return_value=noise), mock.patch("torch.randint", return_value=k):
        saved["loss"] = model.compute_loss(batch)
    saved |= stored(policy)
    if not rate:
        return saved
    with torch.no_grad():
        saved["known"] = model._prepare_global_conditioning(batch)
        saved["chunk"] = model.conditional_sample(BATCH, global_cond=saved["known"], noise=noise)
    saved |= stepped(policy, saved["loss"], rate)
    return saved | {"after": output()}


def diffusion_policy() -> dict[str, Any]:
    """Two cameras of 64 x 64 through one encoder; ten steps of DDIM."""
    small = {"down_dims": (32, 64), "diffusion_step_embed_dim": 16, "n_groups": 8}
    saved = diffusion_of(
        DiffusionConfig(**features(2, 64), **small, noise_scheduler_type="DDIM", num_inference_steps=10), 0.1
    )
    published = diffusion_of(DiffusionConfig(**features(2, 64)), 0.0)
    saved |= {f"published/{name}": value for name, value in published.items()}
    return saved | {"parameters": torch.tensor(count(DiffusionModel, DiffusionConfig(**features(1, 96))))}


def most_likely(share: Tensor, num_samples: int) -> Tensor:
    return share.argmax(-1, keepdim=True)


def vq_bet_of(steps: int, ahead: int) -> VQBeTPolicy:
    config = VQBeTConfig(**features(1, 64), crop_shape=None, dropout=0.0, n_obs_steps=steps, n_action_pred_token=ahead)
    policy = fill(VQBeTPolicy(config))
    vqvae = policy.vqbet.action_head.vqvae_model
    vqvae.discretized, vqvae.vq_layer.freeze_codebook = torch.tensor(True), torch.tensor(True)
    for layer in vqvae.vq_layer.layers:
        layer._codebook.initted.fill_(True)
    policy.vqbet.action_head.vqvae_model.eval()
    return policy


def vq_bet() -> dict[str, Any]:
    """The published policy acts; where it sees one step and predicts one chunk, its loss is that of the chunk alone."""
    policy = vq_bet_of(5, 3)
    batch = seen(1, 64, 5, PLAIN)
    batch["observation.images"] = batch["observation.images.camera0"][:, :, None]
    with mock.patch("torch.multinomial", most_likely), torch.no_grad():
        saved: dict[str, Any] = {"chunk": policy.vqbet(batch, rollout=True)}
        one, now = vq_bet_of(1, 1), seen(1, 64, 1, PLAIN)
        now["action"] = torch.from_numpy(uniform("action", (BATCH, 5, ACTIONS)))
        with torch.enable_grad():
            saved["loss"], parts = one(now)
            saved |= stepped(one, saved["loss"], 1e-8)
    saved["focal"] = torch.tensor(parts["classification_loss"])
    published = VQBeTConfig(**features(1, 96))
    return saved | stored(policy) | {"parameters": torch.tensor(count(VQBeTModel, published))}


def main(folder: Path) -> None:
    """Write the goldens."""
    for name, make in (("act", act), ("diffusion_policy", diffusion_policy), ("vq_bet", vq_bet)):
        saved = {key: value.detach().numpy() if isinstance(value, Tensor) else value for key, value in make().items()}
        np.savez_compressed(folder / f"{name}.npz", **saved)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
