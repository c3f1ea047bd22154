"""OpenVLA (Kim et al. 2024): a vision-language model that says each action as words of its vocabulary."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from kinema.heads.text_tokens import TextTokens
from kinema.nets.encoders.prompt import Prompt
from kinema.nets.encoders.vision_language import VisionLanguage
from kinema.nets.language.sizes import LLAMA_2_7B, TINY
from kinema.nets.language.tokenizers import BYTES, ByteTokenizer
from kinema.nets.towers.sizes import PRISMATIC, TINY_DINOV2, TINY_SIGLIP
from kinema.nets.trunks.language_model import LanguageModel
from kinema.policies._presets import worded
from kinema.policies.base import PolicyConfig
from kinema.transforms.normalise import Normalise
from kinema.transforms.prompt_template import PromptTemplate
from kinema.transforms.resize import Resize

SIZES = {
    "small": (
        (replace(TINY_DINOV2, size=(48, 48)), replace(TINY_SIGLIP, size=(48, 48))),
        replace(TINY, vocabulary=ByteTokenizer.vocabulary + 256),
        TextTokens(after=(ByteTokenizer.END,)),
    ),
    # The model has 64 rows more than Llama-2 words; 29871 is the blank behind "Out:", 2 the end of the text.
    "published": (
        PRISMATIC,
        replace(LLAMA_2_7B, vocabulary=32_064),
        TextTokens(vocabulary=32_000, before=(29_871,), after=(2,)),
    ),
}
"""Towers, language model and how it says an action."""


def openvla(
    *,
    cameras: tuple[str, ...],
    size: Literal["small", "published"] = "small",
    tokenizer: str = BYTES,
    words: int = 96,
    keep: tuple[int, ...] = (),
    pred_horizon: int = 1,
    exec_horizon: int = 1,
) -> PolicyConfig:
    """Return the composition over the named cameras; prompts are at most `words` long.

    The small size learns from nothing on a CPU, with the bytes of a text as its words. For the published size
    `tokenizer` is a directory with Llama-2's; it was trained on one camera and one step at a time. Actions are scaled
    by their quantiles and clipped, but for the components `keep`, such as a gripper's (-1,) that opens and closes.
    """
    towers, language, head = worded("openvla", SIZES, size, tokenizer=tokenizer, of="Llama-2")
    height, width = towers[0].size
    return PolicyConfig(
        # The mark that a text begins with, images, the text.
        encoders={
            "begin": Prompt(tokenizer=tokenizer, length=1, part="first"),
            "images": VisionLanguage(cameras=cameras, towers=towers, projector="mlp3"),
            "instruction": Prompt(tokenizer=tokenizer, length=words, part="rest"),
        },
        trunk=LanguageModel(size=language, attention="causal"),
        head=head,
        transforms=(
            Resize(height=height, width=width),
            Normalise(modes={"action": "quantile_clipped"}, keep={"action": keep}),
            PromptTemplate(template="openvla"),
        ),
        width=language.width,
        pred_horizon=pred_horizon,
        exec_horizon=exec_horizon,
    )
