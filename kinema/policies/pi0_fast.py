"""pi0-FAST (Pertsch et al. 2025; openpi): a vision-language model that says a chunk in FAST's few words."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from kinema.actions.codec import Codec, Unfitted
from kinema.actions.fast import UnfittedFAST
from kinema.heads.text_tokens import TextTokens
from kinema.nets.encoders.prompt import Prompt
from kinema.nets.encoders.vision_language import VisionLanguage
from kinema.nets.language.sizes import PALIGEMMA_2B, TINY
from kinema.nets.language.tokenizers import BYTES, ByteTokenizer
from kinema.nets.towers.sizes import SIGLIP_SO400M_224, TINY_SIGLIP
from kinema.nets.trunks.language_model import LanguageModel
from kinema.policies._presets import numbers, worded
from kinema.policies.base import PolicyConfig
from kinema.transforms.letterbox import Letterbox
from kinema.transforms.normalise import Normalise
from kinema.transforms.prompt_template import PromptTemplate

SIZES = {
    "small": (
        replace(TINY_SIGLIP, size=(48, 48)),
        replace(TINY, vocabulary=ByteTokenizer.vocabulary + 512),
        TextTokens(
            codec=UnfittedFAST(vocabulary=512),
            before=tuple(b"Action: "),
            after=(*b"|", ByteTokenizer.END),
            learns_before=True,
        ),
    ),
    # "Action: ", "|" and the end of the text in PaliGemma's words, whose last 128 stand for segments of images.
    "published": (
        SIGLIP_SO400M_224,
        PALIGEMMA_2B,
        TextTokens(
            codec=UnfittedFAST(),
            vocabulary=PALIGEMMA_2B.vocabulary,
            reserved=128,
            before=(4022, 235_292, 235_248),
            after=(235_371, 1),
            learns_before=True,
        ),
    ),
}
"""Tower, language model and how it says a chunk."""


def pi0_fast(
    *,
    cameras: tuple[str, ...],
    state: str = "proprioception",
    size: Literal["small", "published"] = "small",
    tokenizer: str = BYTES,
    codec: Codec | Unfitted | None = None,
    words: int = 128,
    pred_horizon: int = 16,
    exec_horizon: int = 8,
) -> PolicyConfig:
    """Return the composition over the named cameras; the vector `state` is in the prompt, of at most `words` words.

    FAST is fitted to the training data, unless a `codec` is given, such as FAST+ by `FAST.from_directory`. The small
    size learns from nothing on a CPU, with the bytes of a text as its words. For the published size `tokenizer` is a
    directory with PaliGemma's.
    """
    tower, language, head = worded("pi0_fast", SIZES, size, tokenizer=tokenizer, of="PaliGemma")
    return PolicyConfig(
        encoders={
            "images": VisionLanguage(cameras=cameras, towers=(tower,)),
            "instruction": Prompt(tokenizer=tokenizer, length=words),
        },
        trunk=LanguageModel(size=language, attention="prefix"),
        head=head if codec is None else replace(head, codec=codec),
        transforms=(
            Letterbox(height=tower.size[0], width=tower.size[1]),
            Normalise(modes=dict.fromkeys(numbers(state), "quantile")),
            PromptTemplate(template="pi0_fast", state=state),
        ),
        width=language.width,
        pred_horizon=pred_horizon,
        exec_horizon=exec_horizon,
    )
