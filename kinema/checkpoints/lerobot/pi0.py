"""pi0 of LeRobot as a policy of kinema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from kinema.checkpoints import pi0
from kinema.checkpoints.foreign import Choices
from kinema.checkpoints.lerobot import vla
from kinema.checkpoints.lerobot.directory import Directory
from kinema.checkpoints.settings import pair
from kinema.policies.base import PolicyConfig
from kinema.transforms.letterbox import Letterbox

TOKENIZER = "google/paligemma-3b-pt-224"
FIXED: dict[str, Any] = {"n_obs_steps": 1, "min_period": 4e-3, "max_period": 4.0, **pi0.VARIANTS}
_TRAINS = ("freeze_vision_encoder", "train_expert_only", "rtc_config", "empty_cameras")
_TIMES = {
    "time_sampling_beta_alpha": 1.5, "time_sampling_beta_beta": 1.0, "time_sampling_scale": 0.999,
    "time_sampling_offset": 0.001,
}  # fmt: skip


def policy(found: Directory, choices: Choices) -> PolicyConfig:
    """Return pi0 of the published size."""
    said = found.settings
    said.expect(**FIXED, **_TIMES)
    said.skip(*_TRAINS)
    height, width = pair(said.take("image_resolution", list), "image_resolution")
    return pi0.composition(
        cameras=vla.cameras(found),
        state=found.state or "",
        tokenizer=str(vla.tokenizer(choices, TOKENIZER)),
        words=said.take("tokenizer_max_length", int),
        steps=said.take("num_inference_steps", int),
        transforms=vla.transforms(found, Letterbox(height=height, width=width), said),
        horizons=(said.take("chunk_size", int), said.take("n_action_steps", int)),
    )


def weights(config: PolicyConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return LeRobot's weights as they are here."""
    return pi0.weights(state)
