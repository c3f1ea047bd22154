"""The instruction as words for a trunk that is a language model; another trunk cannot read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from kinema.core.errors import KinemaError, SpecMismatch, unknown
from kinema.core.spec import INSTRUCTION, ObservationSpec
from kinema.nets.base import Encoder, EncoderConfig, Tokens
from kinema.nets.language.tokenizers import BYTES, Tokenizer, tokenizer

Part = Literal["all", "first", "rest"]


@dataclass(frozen=True, kw_only=True)
class Prompt(EncoderConfig):
    """At most `length` words by `tokenizer`: "bytes", or a local directory with a tokenizer.json pinned by `sha256`.

    `part` "first" is the mark alone that every text begins with, and "rest" what comes after it: models that read
    images between the two have an encoder for each (OpenVLA).
    """

    tokenizer: str = BYTES
    length: int = 48
    part: Part = "all"
    sha256: str | None = None
    condition: str | None = None

    def pinned(self) -> Prompt:
        """Return the configuration with the digest of the tokenizer.json that is there now."""
        return replace(self, sha256=tokenizer(self.tokenizer, self.sha256).sha256)

    @property
    def reads(self) -> tuple[str, ...]:
        """The instruction."""
        return (INSTRUCTION,)

    def build(self, spec: ObservationSpec, *, obs_horizon: int, width: int) -> PromptEncoder:
        """Return the encoder; the instruction becomes `length` tokens, those after its end absent."""
        if self.condition is not None:
            raise SpecMismatch(f"prompt takes no condition, got {self.condition!r}")
        if self.length < 1:
            raise KinemaError(f"prompt: length {self.length} is below 1")
        if self.part not in get_args(Part):
            raise unknown("part of a prompt", self.part, get_args(Part))
        spec.select(self.reads)
        return PromptEncoder(self, tokenizer(self.tokenizer, self.sha256), width=width)


class PromptEncoder(Encoder):
    """B texts to `ids` (B, N) of words and values of 0 (B, N, D); -1 and absent after a text's end."""

    padded = True
    place: Tensor

    def __init__(self, config: Prompt, words: Tokenizer, *, width: int) -> None:
        super().__init__()
        self.tokenizer, self.tokens, self.width = words, config.length, width
        self.part, self.mark = config.part, [] if config.part == "all" else _mark(config, words)
        self.vocabulary = words.vocabulary
        self.register_buffer("place", torch.empty(0), persistent=False)

    def forward(self, sample: Mapping[str, Any], condition: Tensor | None) -> Tokens:
        """Return the words; raises KinemaError for a text that is empty, or longer than there are tokens."""
        texts = sample[INSTRUCTION]
        rows = [self._row(text, index) for index, text in enumerate(texts)]
        ids = torch.tensor(rows, dtype=torch.int64, device=self.place.device)
        return Tokens(self.place.new_zeros(*ids.shape, self.width), ids >= 0, ids=ids)

    def _row(self, text: str | None, index: int) -> list[int]:
        if not text or not text.strip():
            raise KinemaError(f"prompt: the instruction of batch entry {index} is {text!r}; expected a text")
        ids = self.mark if self.part == "first" else self.tokenizer.encode(text)[len(self.mark) :]
        if len(ids) > self.tokens:
            raise KinemaError(
                f"prompt: {text[:60]!r} has {len(ids)} words, more than the encoder's length {self.tokens}"
            )
        return ids + [-1] * (self.tokens - len(ids))


def _mark(config: Prompt, words: Tokenizer) -> list[int]:
    """Return the mark that every text begins with; raises KinemaError unless it is exactly one."""
    mark = words.encode("")
    if len(mark) != 1:
        raise KinemaError(
            f"prompt: an empty text has {len(mark)} words by tokenizer {config.tokenizer!r}; part {config.part!r} "
            "expects one, the mark that texts begin with"
        )
    return mark
