"""Rows of whole numbers as fewer tokens, without loss: byte-pair encoding as the FAST tokenizer of actions uses it.

A number is the character of that code, a row a text; its UTF-8 bytes, in the byte-level alphabet of GPT-2, are joined
pair by pair (Sennrich et al. 2016; Radford et al. 2019, section 2.2).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from kinema.core.errors import KinemaError

_BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)
_UNREADABLE = "\ufffd"
"""What bytes that are no character decode to."""


@dataclass(frozen=True, kw_only=True)
class BytePairs:
    """A fitted table: what each token stands for, and which two tokens are joined, the most frequent pair first."""

    vocabulary: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        known = set(self.vocabulary)
        if len(known) != len(self.vocabulary) or not all({a, b, a + b} <= known for a, b in self.merges):
            raise KinemaError("byte pairs: a merge joins what is not in the vocabulary, or an entry is there twice")

    @classmethod
    def fit(cls, rows: Sequence[np.ndarray], *, size: int) -> BytePairs:
        """Return the table of at most `size` entries for `rows` of numbers from 0.

        Entries are those of the published fit, and after them the bytes that a number up to the largest needs and no
        row held: without an entry they would vanish from a text without a word.
        """
        largest = max(int(row.max()) for row in rows)
        texts = [_text(row) for row in rows]
        every = [chr(number) for number in range(min(largest + 1, size))]
        symbols = _symbols("".join(every)) | set(every)
        if len(symbols) >= size:
            raise KinemaError(f"byte pairs: numbers up to {largest} leave no room for pairs among {size} entries")
        unmet = sorted(symbols - set(every) - _symbols("".join(texts)))
        trainer = trainers.BpeTrainer(
            vocab_size=size - len(unmet),
            min_frequency=2,
            show_progress=False,
            special_tokens=[],
            initial_alphabet=every,
            max_token_length=10_000,
        )
        tokenizer = _byte_level(models.BPE())
        tokenizer.train_from_iterator(texts, trainer=trainer)
        fitted = cls.from_json(json.loads(tokenizer.to_str()))
        return cls(vocabulary=(*fitted.vocabulary, *unmet), merges=fitted.merges)

    @classmethod
    def from_json(cls, content: Any) -> BytePairs:
        """Return the table in the content of a `tokenizer.json`; ValueError, KeyError or TypeError for another kind."""
        model, level = content["model"], content["pre_tokenizer"]
        if (model["type"], level["type"]) != ("BPE", "ByteLevel") or level["add_prefix_space"]:
            raise ValueError("expected byte-level byte pairs without a prefix space")
        ids = model["vocab"]
        vocabulary = sorted(ids, key=ids.__getitem__)
        if content["added_tokens"] or [ids[entry] for entry in vocabulary] != list(range(len(ids))):
            raise ValueError("ids are not 0, 1, 2, ..., or tokens were added")
        pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"])
        return cls(vocabulary=tuple(vocabulary), merges=tuple((first, second) for first, second in pairs))

    @property
    def largest(self) -> int:
        """The largest number that has an entry, as all below it have: that of the fit, or little more."""
        known = set(self.vocabulary)
        return next(number for number in range(len(known) + 1) if chr(number) not in known) - 1

    def encode(self, numbers: np.ndarray) -> list[int]:
        """Return the tokens of `numbers` (N,); a KinemaError where a byte of one has no entry."""
        text = _text(numbers)
        tokens: list[int] = self._tokenizer.encode(text).ids
        if self._tokenizer.decode(tokens) != text:
            raise KinemaError("byte pairs: a number has no entry; fit on rows that hold all bytes")
        return tokens

    def decode(self, tokens: np.ndarray) -> np.ndarray | None:
        """Return the numbers (N,) int64 of `tokens` (L,), None for those of which no text is made."""
        text = self._tokenizer.decode(tokens.tolist())
        return None if _UNREADABLE in text else np.array([ord(character) for character in text], np.int64)

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer:
        return _byte_level(models.BPE({entry: i for i, entry in enumerate(self.vocabulary)}, list(self.merges)))


def _byte_level(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer, tokenizer.decoder = _BYTES, decoders.ByteLevel()
    return tokenizer


def _symbols(text: str) -> set[str]:
    """Return the symbols of the bytes of `text`."""
    return {symbol for piece, _ in _BYTES.pre_tokenize_str(text) for symbol in piece}


def _text(numbers: np.ndarray) -> str:
    return "".join(map(chr, numbers))
