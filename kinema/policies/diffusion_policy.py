"""Diffusion Policy: chunks of actions denoised under what the last two steps showed (Chi et al. 2023).

Size "published" is that of the image tasks and LeRobot's default: 263 million parameters with one camera. Trained
with 64 chunks a step, an EMA of the weights (power 0.75), 500 steps of warm-up and a cosine: the CNN by AdamW at
1e-4, betas (0.95, 0.999), decay 1e-6; the transformer with betas (0.9, 0.95), decay 1e-3 (1e-6 of the images).
Images are cropped at random to 9/10, which is an augmentation, not part of the policy.

kinema's chunk begins with the action of the newest observed step; the authors' begins `obs_horizon` - 1 earlier,
of which those of the past are not executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kinema.core.errors import unknown
from kinema.heads.diffusion import Diffusion
from kinema.nets.base import EncoderConfig
from kinema.nets.denoisers.base import DenoiserConfig
from kinema.nets.denoisers.transformer import Transformer
from kinema.nets.denoisers.unet1d import Unet1d
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.encoders.resnet import ResNet
from kinema.nets.trunks.concatenate import Concatenate
from kinema.policies._presets import numbers, sized
from kinema.policies.base import PolicyConfig
from kinema.transforms.normalise import Normalise

KEYPOINTS = 32
SIZES: dict[str, dict[str, Any]] = {
    "small": {
        "images": {"layers": 10, "channels": 16, "stages": 2},
        "unet": {"channels": (64, 128), "time_width": 64},
        "transformer": {"layers": 3, "heads": 4, "hidden": 128},
        "sampler": {"sampler": "ddim", "steps": 10, "draws": 4},
    },
    "published": {
        "images": {"layers": 18},
        "unet": {"channels": (512, 1024, 2048), "time_width": 128},
        "transformer": {"layers": 8, "heads": 4, "hidden": 256, "dropout": 0.3},
        "sampler": {"sampler": "ddpm", "steps": 100, "draws": 1},
    },
}


def diffusion_policy(
    *,
    cameras: tuple[str, ...],
    state: str | None = "proprioception",
    language: EncoderConfig | None = None,
    denoiser: str = "cnn",
    size: str = "small",
    obs_horizon: int = 2,
    pred_horizon: int = 16,
    exec_horizon: int = 8,
) -> PolicyConfig:
    """Return Diffusion Policy with its `denoiser` "cnn" or "transformer"."""
    sizes = sized("diffusion_policy", SIZES, size)
    encoders: dict[str, EncoderConfig] = {} if language is None else {"instruction": language}
    if state is not None:
        encoders["state"] = Proprioception(vector=state, per_step=True, hidden=None, raw=True)
    encoders["images"] = ResNet(cameras=cameras, readout="spatial_softmax", keypoints=KEYPOINTS, **sizes["images"])
    return PolicyConfig(
        encoders=encoders,
        trunk=Concatenate(by_step=denoiser == "transformer"),
        head=Diffusion(
            denoiser=_denoiser(denoiser, sizes, obs_horizon), prediction="epsilon", clip=1.0, **sizes["sampler"]
        ),
        transforms=(Normalise(modes=dict.fromkeys(numbers(state), "min_max")),),
        width=2 * KEYPOINTS,
        obs_horizon=obs_horizon,
        pred_horizon=pred_horizon,
        exec_horizon=exec_horizon,
    )


def _denoiser(name: str, sizes: Mapping[str, Any], steps: int) -> DenoiserConfig:
    known: dict[str, DenoiserConfig] = {
        "cnn": Unet1d(**sizes["unet"]),
        "transformer": Transformer(steps=steps, **sizes["transformer"]),
    }
    if name not in known:
        raise unknown("diffusion_policy denoiser", name, known)
    return known[name]
