"""Diffusion Policy of LeRobot as a policy of kinema, and back."""

from __future__ import annotations

from typing import Any

from kinema.checkpoints.lerobot import parts
from kinema.checkpoints.lerobot.directory import Directory
from kinema.checkpoints.lerobot.scaling import normalise
from kinema.core.errors import CheckpointError
from kinema.heads.diffusion import Diffusion
from kinema.nets.base import EncoderConfig
from kinema.nets.denoisers.unet1d import Unet1d
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.encoders.resnet import ResNet
from kinema.nets.trunks.concatenate import Concatenate
from kinema.policies.base import PolicyConfig
from kinema.transforms.centre_crop import CentreCrop

KEYS = "diffusion_policy"
FIXED: dict[str, Any] = {
    "use_separate_rgb_encoder_per_camera": False,
    "use_film_scale_modulation": True,
    "num_train_timesteps": 100,
    "beta_schedule": "squaredcos_cap_v2",
    "beta_start": 0.0001,
    "beta_end": 0.02,
}
SAMPLERS = {"DDPM": "ddpm", "DDIM": "ddim"}
PREDICTIONS = {"epsilon": "epsilon", "sample": "sample"}


def policy(found: Directory) -> PolicyConfig:
    """Return Diffusion Policy; of LeRobot's `horizon` those before the newest observed step are the head's `past`."""
    said = found.settings
    said.expect(**FIXED)
    if found.state is None:
        raise CheckpointError(f"{said.where}: no observation.state, which LeRobot's diffusion policy reads")
    steps, keypoints = said.take("n_obs_steps", int), said.take("spatial_softmax_num_keypoints", int)
    norm = "group" if said.take("use_group_norm", bool) else "frozen"
    encoders: dict[str, EncoderConfig] = {
        "state": Proprioception(vector=found.state, per_step=True, hidden=None, raw=True),
        "images": parts.resnet(found, norm=norm, readout="spatial_softmax", keypoints=keypoints),
    }
    return PolicyConfig(
        encoders=encoders,
        trunk=Concatenate(),
        head=_head(found, past=steps - 1),
        transforms=(*parts.crop(said), *normalise(found)),
        width=2 * keypoints,
        obs_horizon=steps,
        pred_horizon=said.take("horizon", int) - (steps - 1),
        exec_horizon=said.take("n_action_steps", int),
    )


def _head(found: Directory, *, past: int) -> Diffusion:
    said = found.settings
    denoiser = Unet1d(
        channels=tuple(said.take("down_dims", list)),
        kernel=said.take("kernel_size", int),
        groups=said.take("n_groups", int),
        time_width=said.take("diffusion_step_embed_dim", int),
    )
    clips, bound = said.take("clip_sample", bool), said.take("clip_sample_range", float)
    return Diffusion(
        denoiser=denoiser,
        train_steps=FIXED["num_train_timesteps"],
        prediction=said.choose("prediction_type", PREDICTIONS),
        clip=float(bound) if clips else None,
        sampler=said.choose("noise_scheduler_type", SAMPLERS),
        steps=said.maybe("num_inference_steps", int) or FIXED["num_train_timesteps"],
        draws=1,
        past=past,
    )


def entries(config: PolicyConfig) -> dict[str, Any]:
    """Return what config.json of LeRobot says of it; whoever calls makes sure that `policy` returns `config` of it."""
    encoders = parts.only(config.encoders, {"state": Proprioception, "images": ResNet}, "diffusion policy")
    head, trunk = config.head, config.trunk
    if not (isinstance(head, Diffusion) and isinstance(trunk, Concatenate) and isinstance(head.denoiser, Unet1d)):
        raise CheckpointError("LeRobot's diffusion policy has a head diffusion whose denoiser is unet1d; this has not")
    if set(encoders) != {"state", "images"}:
        raise CheckpointError("LeRobot's diffusion policy has a state and images; this policy has not")
    crops = [transform for transform in config.transforms if isinstance(transform, CentreCrop)]
    return {
        **FIXED,
        "n_obs_steps": config.obs_horizon,
        "horizon": head.past + config.pred_horizon,
        "n_action_steps": config.exec_horizon,
        "vision_backbone": parts.backbone_name(encoders["images"]),
        "resize_shape": None,
        "crop_ratio": 1.0,
        "crop_shape": [crops[0].height, crops[0].width] if crops else None,
        "pretrained_backbone_weights": None,
        "use_group_norm": encoders["images"].norm == "group",
        "spatial_softmax_num_keypoints": encoders["images"].keypoints,
        "down_dims": list(head.denoiser.channels),
        "kernel_size": head.denoiser.kernel,
        "n_groups": head.denoiser.groups,
        "diffusion_step_embed_dim": head.denoiser.time_width,
        "noise_scheduler_type": next((k for k, v in SAMPLERS.items() if v == head.sampler), head.sampler),
        "prediction_type": head.prediction,
        "clip_sample": head.clip is not None,
        "clip_sample_range": 1.0 if head.clip is None else head.clip,
        "num_inference_steps": head.steps,
    }
