"""pi0 (Black et al. 2024; openpi): a vision-language model, and a flow expert that reads its keys and values."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from kinema.heads.flow import Flow
from kinema.nets.denoisers.expert import TINY_EXPERT, Expert
from kinema.nets.encoders.prompt import Prompt
from kinema.nets.encoders.vision_language import VisionLanguage
from kinema.nets.language.sizes import GEMMA_300M, PALIGEMMA_2B, TINY
from kinema.nets.language.tokenizers import BYTES
from kinema.nets.towers.sizes import SIGLIP_SO400M_224, TINY_SIGLIP
from kinema.nets.trunks.language_model import LanguageModel
from kinema.policies._presets import horizons, linear, padded_to, worded
from kinema.policies.base import PolicyConfig

SIZES = {
    "small": (replace(TINY_SIGLIP, size=(48, 48)), TINY, TINY_EXPERT, 64, 4, (16, 8)),
    "published": (SIGLIP_SO400M_224, PALIGEMMA_2B, GEMMA_300M, 48, 1, (50, 50)),
}
"""Tower, trunk, expert, the most words of an instruction, draws, and how many steps are predicted and executed."""


def pi0(
    *,
    cameras: tuple[str, ...],
    state: str | None = "proprioception",
    size: Literal["small", "published"] = "small",
    tokenizer: str = BYTES,
    padded: int = 32,
    draws: int | None = None,
    pred_horizon: int | None = None,
    exec_horizon: int | None = None,
) -> PolicyConfig:
    """Return the composition over the named cameras and the vector `state`; actions and state are `padded` with zeros.

    The small size learns from nothing on a CPU, with the bytes of a text as its words. For the published size
    `tokenizer` is a directory with PaliGemma's. What is None comes with the size: the small one trains with 4 `draws`,
    predicts 16 steps and executes 8, openpi's trains with 1 and predicts and executes 50.
    """
    tower, trunk, expert, words, drawn, steps = worded("pi0", SIZES, size, tokenizer=tokenizer, of="PaliGemma")
    return PolicyConfig(
        encoders={
            "images": VisionLanguage(cameras=cameras, towers=(tower,)),
            "instruction": Prompt(tokenizer=tokenizer, length=words),
            **linear(state),
        },
        trunk=LanguageModel(size=trunk),
        head=Flow(denoiser=Expert(size=expert), draws=draws or drawn, state=None if state is None else "state"),
        transforms=padded_to(padded, state=state, size=tower.size, template="pi0"),
        width=trunk.width,
        **horizons(steps, pred_horizon, exec_horizon),
    )
