"""Sizes of decoder-only language models, published ones and a tiny one; data alone, built by `decoder.build`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from kinema.core.errors import KinemaError, unknown

Family = Literal["gemma", "llama", "qwen2"]


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """A decoder-only transformer: `layers` of `width`, gated MLPs of `hidden`, and grouped attention heads.

    `heads` queries of `head_width` share `kv_heads` keys and values. With `vocabulary` 0 there is no embedding: such a
    model reads values alone. If `tied`, the embedding also makes the logits.
    """

    family: Family
    layers: int
    width: int
    hidden: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    tied: bool = True
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.family not in get_args(Family):
            raise unknown("family of a decoder", self.family, get_args(Family))
        if min(self.layers, self.width, self.hidden, self.kv_heads) < 1 or self.vocabulary < 0:
            raise KinemaError(f"decoder: {self} has a size below 1")
        if self.heads < 1 or self.heads % self.kv_heads or self.head_width < 2 or self.head_width % 2:
            raise KinemaError(
                f"decoder: heads {self.heads} must be a multiple of kv_heads {self.kv_heads}, "
                f"and head_width {self.head_width} an even number"
            )

    def truncated(self, layers: int | None) -> Decoder:
        """Return the size with its first `layers` layers alone, all if None."""
        if layers is None:
            return self
        if not 1 <= layers <= self.layers:
            raise KinemaError(f"decoder: layers {layers} is outside 1 to {self.layers}")
        return replace(self, layers=layers)


# config.json of google/gemma-2b (Gemma Team 2024, table 1).
GEMMA_2B = Decoder(
    family="gemma", layers=18, width=2048, hidden=16384, heads=8, kv_heads=1, head_width=256, vocabulary=256_000
)
# openpi, models/gemma.py: Gemma 2B with PaliGemma's words, and the action expert of pi0 beside it.
PALIGEMMA_2B = replace(GEMMA_2B, vocabulary=257_152)
GEMMA_300M = replace(GEMMA_2B, width=1024, hidden=4096, vocabulary=0)
# config.json of meta-llama/Llama-2-7b-hf.
LLAMA_2_7B = Decoder(
    family="llama",
    layers=32,
    width=4096,
    hidden=11008,
    heads=32,
    kv_heads=32,
    head_width=128,
    vocabulary=32_000,
    tied=False,
    norm_eps=1e-5,
)
# config.json of HuggingFaceTB/SmolLM2-135M, -360M and -1.7B (Ben Allal et al. 2025).
SMOLLM2_135M = Decoder(
    family="llama",
    layers=30,
    width=576,
    hidden=1536,
    heads=9,
    kv_heads=3,
    head_width=64,
    vocabulary=49_152,
    rope_theta=100_000.0,
    norm_eps=1e-5,
)
SMOLLM2_360M = replace(SMOLLM2_135M, layers=32, width=960, hidden=2560, heads=15, kv_heads=5)
SMOLLM2_1B7 = replace(SMOLLM2_135M, layers=24, width=2048, hidden=8192, heads=32, kv_heads=32, rope_theta=130_000.0)
# For two CPU cores; the byte tokenizer's words, and 62 to spare.
TINY = Decoder(
    family="llama",
    layers=4,
    width=128,
    hidden=352,
    heads=4,
    kv_heads=2,
    head_width=32,
    vocabulary=320,
    norm_eps=1e-5,
)
