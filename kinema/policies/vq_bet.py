"""VQ-BeT: a small GPT over the observed steps predicts the codes of the next chunk (Lee et al. 2024)."""

from __future__ import annotations

from typing import Any

from kinema.heads.vq_bet import VqBet
from kinema.nets.base import EncoderConfig
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.encoders.resnet import ResNet
from kinema.nets.trunks.gpt import Gpt
from kinema.policies._presets import numbers, sized
from kinema.policies.base import PolicyConfig
from kinema.transforms.normalise import Normalise

SIZES: dict[str, dict[str, Any]] = {
    "small": {
        "width": 128,
        "images": {"layers": 10, "channels": 16, "stages": 2},
        "trunk": {"layers": 3, "heads": 4, "dropout": 0.1},
        "head": {"latent": 64, "hidden": 128, "offset_weight": 10.0},
        "quantiser_steps": 1000,
    },
    "published": {
        "width": 512,
        "images": {"layers": 18, "mean": (0.0, 0.0, 0.0), "deviation": (1.0, 1.0, 1.0)},
        "trunk": {"layers": 8, "heads": 8, "dropout": 0.1, "places": 500},
        "head": {"latent": 256, "hidden": 128, "offset_for": "sampled", "temperature": 0.1, "revive": 0.0},
        "quantiser_steps": 20_000,
    },
}


def vq_bet(
    *,
    cameras: tuple[str, ...],
    state: str | None = "proprioception",
    language: EncoderConfig | None = None,
    size: str = "small",
    quantiser_steps: int | None = None,
    obs_horizon: int = 5,
    pred_horizon: int = 5,
    exec_horizon: int = 5,
) -> PolicyConfig:
    """Return VQ-BeT, of whose training steps the first `quantiser_steps` make the codes.

    Size "published" is LeRobot's default: Adam at 1e-4 with betas (0.95, 0.999) and decay 1e-6, its quantiser at 1e-3
    with decay 1e-4, images cropped at random to 84 of 96 pixels. "small" weighs the offset by 10, not 1e4: beside that
    what the codes say of the images is drowned, and nothing is learnt of them in the first thousands of steps.

    Here the chunk that begins now is predicted and trained, the one that acts. LeRobot also trains those that began at
    the steps before and two that begin later, from the same tokens; the weights are the same.
    """
    sizes = sized("vq_bet", SIZES, size)
    encoders: dict[str, EncoderConfig] = {} if language is None else {"instruction": language}
    encoders["images"] = ResNet(cameras=cameras, readout="spatial_softmax", **sizes["images"])
    if state is not None:
        encoders["state"] = Proprioception(vector=state, per_step=True, hidden=None)
    return PolicyConfig(
        encoders=encoders,
        trunk=Gpt(**sizes["trunk"]),
        head=VqBet(quantiser_steps=quantiser_steps or sizes["quantiser_steps"], **sizes["head"]),
        transforms=(Normalise(modes=dict.fromkeys(numbers(state), "min_max")),),
        width=sizes["width"],
        obs_horizon=obs_horizon,
        pred_horizon=pred_horizon,
        exec_horizon=exec_horizon,
    )
