"""Octo: chunks of actions denoised from what a transformer over instruction and cameras reads out (Octo team 2024)."""

from __future__ import annotations

from typing import Any

from kinema.core.errors import unknown
from kinema.heads.diffusion import Diffusion
from kinema.nets.base import EncoderConfig
from kinema.nets.denoisers.mlp import Mlp
from kinema.nets.encoders.patches import Patches
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.encoders.sentence import Sentence
from kinema.nets.trunks.blockwise import Blockwise
from kinema.policies.base import PolicyConfig
from kinema.transforms.normalise import Normalise

SIZES: dict[str, dict[str, Any]] = {
    "small": {
        "width": 96,
        "trunk": {"layers": 3, "heads": 4, "hidden": 192},
        "images": {"patch": 8, "channels": (32, 48, 64), "embedding": 96},
    },
    "published_small": {"width": 384, "trunk": {"layers": 12, "heads": 6, "hidden": 1536}, "images": {}},
    "published_base": {"width": 768, "trunk": {"layers": 12, "heads": 12, "hidden": 3072}, "images": {}},
}


def octo(
    *,
    cameras: tuple[str, ...],
    language: EncoderConfig | None = Sentence(),  # noqa: B008 - frozen
    state: str | None = None,
    size: str = "small",
    camera_dropout: float = 0.0,
    obs_horizon: int = 2,
    pred_horizon: int = 4,
    exec_horizon: int = 4,
) -> PolicyConfig:
    """Return Octo; `camera_dropout` is the chance that training hides a camera.

    Sizes "published_small" and "published_base" are Octo-Small (27 million parameters) and Octo-Base (93 million), if
    the data's cameras are of 256 px (a wrist's of 128), as other sizes make other numbers of tokens, and `language` is
    `T5`, whose own 110 million are frozen and not counted; trained by AdamW at 3e-4 with decay 0.1 and an inverse
    square root, 2048 windows a step. They can also be told by a goal image, which is not here. Actions are scaled to
    mean 0 and deviation 1, and bounded at 5 when acting.
    """
    if size not in SIZES:
        raise unknown("octo size", size, SIZES)
    sizes = SIZES[size]
    encoders: dict[str, EncoderConfig] = {} if language is None else {"instruction": language}
    encoders |= {camera: Patches(camera=camera, dropout=camera_dropout, **sizes["images"]) for camera in cameras}
    if state is not None:
        encoders["state"] = Proprioception(vector=state, hidden=None, per_step=True)
    return PolicyConfig(
        encoders=encoders,
        trunk=Blockwise(**sizes["trunk"]),
        head=Diffusion(denoiser=Mlp(), train_steps=20, steps=20, sampler="ddpm", clip=5.0),
        transforms=(
            Normalise(modes={"action": "mean_std"} | ({} if state is None else {f"vector.{state}": "mean_std"})),
        ),
        width=sizes["width"],
        obs_horizon=obs_horizon,
        pred_horizon=pred_horizon,
        exec_horizon=exec_horizon,
    )
