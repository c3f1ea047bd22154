"""OpenVLA-OFT (Kim et al. 2025): OpenVLA with chunks of numbers from empty slots, all in one pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from kinema.heads.parallel_slots import ParallelSlots
from kinema.nets.encoders.prompt import Prompt
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.encoders.vision_language import VisionLanguage
from kinema.nets.language.sizes import LLAMA_2_7B, TINY
from kinema.nets.language.tokenizers import BYTES
from kinema.nets.towers.sizes import PRISMATIC, TINY_DINOV2, TINY_SIGLIP
from kinema.nets.trunks.language_model import LanguageModel
from kinema.policies._presets import numbers, worded
from kinema.policies.base import PolicyConfig
from kinema.transforms.normalise import Normalise
from kinema.transforms.prompt_template import PromptTemplate
from kinema.transforms.resize import Resize

SIZES = {
    "small": ((replace(TINY_DINOV2, size=(48, 48)), replace(TINY_SIGLIP, size=(48, 48))), TINY),
    "published": (PRISMATIC, replace(LLAMA_2_7B, vocabulary=32_064)),
}
"""Towers and language model."""


def openvla_oft(
    *,
    cameras: tuple[str, ...],
    state: str | None = "proprioception",
    size: Literal["small", "published"] = "small",
    tokenizer: str = BYTES,
    words: int = 96,
    keep: tuple[int, ...] = (),
    pred_horizon: int = 8,
    exec_horizon: int = 8,
) -> PolicyConfig:
    """Return the composition over the named cameras and the vector `state`; prompts are at most `words` long.

    The small size learns from nothing on a CPU, with the bytes of a text as its words. For the published size
    `tokenizer` is a directory with Llama-2's; chunks are of 8 steps in LIBERO and 25 on ALOHA. Actions and state are
    scaled by their quantiles and clipped, but for the action's components `keep`, such as a gripper's (-1,). The
    modulation of the towers by the instruction ("OFT+") is not in it.
    """
    towers, language = worded("openvla_oft", SIZES, size, tokenizer=tokenizer, of="Llama-2")
    return PolicyConfig(
        encoders={
            "begin": Prompt(tokenizer=tokenizer, length=1, part="first"),
            "images": VisionLanguage(cameras=cameras, towers=towers, projector="mlp3"),
            **({} if state is None else {"state": Proprioception(vector=state, hidden=language.width)}),
            "instruction": Prompt(tokenizer=tokenizer, length=words, part="rest"),
        },
        trunk=LanguageModel(size=language, attention="causal"),
        head=ParallelSlots(),
        transforms=(
            Resize(height=towers[0].size[0], width=towers[0].size[1]),
            Normalise(modes=dict.fromkeys(numbers(state), "quantile_clipped"), keep={"action": keep}),
            PromptTemplate(template="openvla"),
        ),
        width=language.width,
        pred_horizon=pred_horizon,
        exec_horizon=exec_horizon,
    )
