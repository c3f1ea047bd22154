"""SmolVLA (Shukor et al. 2025): a small frozen vision-language model, half its layers, and an expert beside them."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from kinema.heads.flow import Flow
from kinema.nets.denoisers.interleaved_expert import InterleavedExpert, beside
from kinema.nets.encoders.prompt import Prompt
from kinema.nets.encoders.vision_language import VisionLanguage
from kinema.nets.language.sizes import SMOLLM2_360M, TINY
from kinema.nets.language.tokenizers import BYTES
from kinema.nets.towers.sizes import SMOLVLM2_500M, TINY_SIGLIP
from kinema.nets.trunks.language_model import LanguageModel
from kinema.policies._presets import horizons, linear, padded_to, worded
from kinema.policies.base import PolicyConfig

# SmolVLM2-500M-Video-Instruct's. LeRobot turns keys by 10 000 and scales what goes in, neither of which it was trained
# with: policies from there are such (`kinema.checkpoints.lerobot.smolvla`), this one takes the model as it was made.
_SMOLVLM2 = replace(SMOLLM2_360M, vocabulary=49_280, tied=False)
SIZES = {
    "small": (replace(TINY_SIGLIP, size=(48, 48)), 2, TINY, 4, 64),
    "published": (SMOLVLM2_500M, 4, _SMOLVLM2, 16, 48),
}
"""Tower, pixel shuffle, language model, how many of its layers are kept, and the most words of an instruction."""
TRAINED = {"small": (False, 4, (16, 8)), "published": (True, 1, (50, 50))}
"""Whether the vision-language model is frozen, draws, and how many steps are predicted and executed."""


def smolvla(
    *,
    cameras: tuple[str, ...],
    state: str | None = "proprioception",
    size: Literal["small", "published"] = "small",
    tokenizer: str = BYTES,
    frozen: bool | None = None,
    padded: int = 32,
    draws: int | None = None,
    pred_horizon: int | None = None,
    exec_horizon: int | None = None,
) -> PolicyConfig:
    """Return the composition over the named cameras and the vector `state`; actions and state are `padded` with zeros.

    The small size learns from nothing on a CPU, with the bytes of a text as its words. For the published size
    `tokenizer` is a directory with SmolVLM2's, whose vision-language weights are to be imported. What is None comes
    with the size: the small one is not `frozen`, trains with 4 `draws`, predicts 16 steps and executes 8; the published
    is frozen but for state and expert, trains with 1 draw, and predicts and executes 50.
    """
    tower, shuffle, whole, layers, words = worded("smolvla", SIZES, size, tokenizer=tokenizer, of="SmolVLM2")
    kept, drawn, steps = TRAINED[size]
    trunk, kept = whole.truncated(layers), kept if frozen is None else frozen
    images = VisionLanguage(cameras=cameras, towers=(tower,), projector="pixel_shuffle", shuffle=shuffle)
    return PolicyConfig(
        encoders={
            "images": replace(images, frozen="all" if kept else "nothing"),
            "instruction": Prompt(tokenizer=tokenizer, length=words),
            **linear(state),
        },
        trunk=LanguageModel(size=trunk, apart=() if state is None else ("state",), frozen=kept),
        head=Flow(denoiser=InterleavedExpert(size=beside(trunk)), draws=draws or drawn),
        transforms=padded_to(padded, state=state, size=tower.size, template="smolvla"),
        width=trunk.width,
        **horizons(steps, pred_horizon, exec_horizon),
    )
