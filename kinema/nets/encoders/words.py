"""A small language encoder trained from scratch: hashed word pieces, averaged. For machines without a sentence encoder.

It knows no synonyms: an unseen paraphrase is understood only through words and word pairs that training has shown.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from kinema.core.errors import SpecMismatch
from kinema.core.spec import INSTRUCTION, ObservationSpec
from kinema.nets.base import Encoder, EncoderConfig, Tokens


@dataclass(frozen=True, kw_only=True)
class Words(EncoderConfig):
    """Words and neighbouring pairs hashed into `buckets` trained embeddings (Joulin et al. 2017, fastText)."""

    buckets: int = 4096
    condition: str | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The instruction."""
        return (INSTRUCTION,)

    def build(self, spec: ObservationSpec, *, obs_horizon: int, width: int) -> WordsEncoder:
        """Return the encoder; the whole instruction becomes one token."""
        if self.condition is not None:
            raise SpecMismatch(f"words takes no condition, got {self.condition!r}")
        spec.select(self.reads)
        return WordsEncoder(self, width=width)


class WordsEncoder(Encoder):
    """B texts to one token (B, 1, D)."""

    tokens = 1

    def __init__(self, config: Words, *, width: int) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(config.buckets, width, mode="mean")
        self.project = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))

    def forward(self, sample: Mapping[str, Any], condition: Tensor | None) -> Tokens:
        """Return the averaged embedding of each text's words and pairs."""
        bags = [word_buckets(text, self.embedding.num_embeddings) for text in sample[INSTRUCTION]]
        device = self.embedding.weight.device
        offsets = torch.tensor([0, *[len(bag) for bag in bags]], device=device).cumsum(0)[:-1]
        indices = torch.tensor([bucket for bag in bags for bucket in bag], device=device)
        return Tokens.present(self.project(self.embedding(indices, offsets))[:, None])


def word_buckets(text: str, buckets: int) -> list[int]:
    """Return the bucket of every word and pair of neighbouring words in `text`, the same on every machine."""
    words = re.findall(r"\w+", text.lower()) or [""]
    pieces = words + [f"{left} {right}" for left, right in pairwise(words)]
    return [int.from_bytes(hashlib.sha256(piece.encode()).digest()[:8], "little") % buckets for piece in pieces]
