"""What every tokenizer of actions offers: chunks of real numbers to rows of whole numbers and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from kinema.core.errors import KinemaError


class Codec(ABC):
    """Maps chunks (B, H, A) to rows of tokens and back; frozen, numpy only, what an autoregressive head predicts.

    A row is read from left to right. Where chunks take different numbers of tokens, `end` follows the last one and
    fills the row up to `length`, so that all rows are equally long; a head learns every `end` up to the first, and
    what a sampled row holds behind its first `end` means nothing. Where `end` is None every row is full.
    """

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of different tokens, `end` among them: they are 0 to `size` - 1."""

    @property
    def end(self) -> int | None:
        """The token that ends a row, or None where all rows are full."""
        return None

    @abstractmethod
    def length(self, pred_horizon: int, action_width: int) -> int:
        """Return the length of the rows of such chunks, `end` included."""

    @abstractmethod
    def encode_chunks(self, chunks: np.ndarray) -> np.ndarray:
        """Return the tokens (B, length) int64 of `chunks` (B, H, A); raises KinemaError for what is not finite.

        Steps of padding are numbers like others here: give them those of `without_padding`.
        """

    @abstractmethod
    def decode_chunks(
        self, tokens: np.ndarray, *, pred_horizon: int, action_width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the chunks (B, H, A) float64 of rows `tokens` (B, any), and which rows (B,) are no chunk.

        Such a row is what a network can sample and a codec cannot read. It is NaN in the chunks: the caller counts
        them and says what the robot does instead.
        """


class Unfitted(ABC):
    """A codec that is made from chunks of the training data, and stands for itself in a configuration until then."""

    @abstractmethod
    def fitted(self, chunks: np.ndarray) -> Codec:
        """Return the codec for `chunks` (B, H, A), normalised and without padding."""


class Elementwise(Codec):
    """A codec with one token for each number: a row is the chunk's H x A tokens, step after step."""

    @abstractmethod
    def encode(self, values: np.ndarray) -> np.ndarray:
        """Return the tokens (...) int64 of `values` (...); raises KinemaError for what is not finite."""

    @abstractmethod
    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """Return the values (...) float64 of `tokens` (...); raises KinemaError for a token that does not exist."""

    @property
    @abstractmethod
    def edges(self) -> np.ndarray:
        """The smallest value of every token but the first, (size - 1,) float64: all that `encode` does, as a table."""

    def length(self, pred_horizon: int, action_width: int) -> int:
        """Return H x A."""
        return pred_horizon * action_width

    def encode_chunks(self, chunks: np.ndarray) -> np.ndarray:
        """Return the tokens (B, H x A) int64 of `chunks` (B, H, A)."""
        batch, steps, width = chunks.shape
        return self.encode(chunks).reshape(batch, steps * width)

    def decode_chunks(
        self, tokens: np.ndarray, *, pred_horizon: int, action_width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the chunks (B, H, A) float64 of rows (B, H x A), all of which are chunks."""
        expected = (len(tokens), self.length(pred_horizon, action_width))
        if tokens.shape != expected:
            raise KinemaError(f"{type(self).__name__}: tokens of shape {tokens.shape}, expected {expected}")
        values = self.decode(tokens).reshape(-1, pred_horizon, action_width)
        return values, np.zeros(len(tokens), bool)


def without_padding(chunks: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return `chunks` (B, H, A) in which what padding held changes nothing, for codecs that mix the steps of a chunk.

    Where `mask` (B, H) or (B, H, A) is False, the last real value before it is repeated, at the start the first one;
    a component without any real value is 0.
    """
    valid = np.broadcast_to(mask if mask.ndim == 3 else mask[..., None], chunks.shape)
    steps = np.arange(chunks.shape[1])[None, :, None]
    last = np.maximum.accumulate(np.where(valid, steps, -1), axis=1)
    source = np.where(last < 0, valid.argmax(axis=1)[:, None], last)
    return np.where(valid.any(axis=1, keepdims=True), np.take_along_axis(chunks, source, axis=1), 0.0)


def fitted(codec: Codec | Unfitted, chunks: Callable[[], tuple[np.ndarray, np.ndarray]]) -> Codec:
    """Return `codec`, fitted if it is not yet: to `chunks()`, which are (B, H, A) and a mask (B, H) or (B, H, A)."""
    if isinstance(codec, Codec):
        return codec
    given, mask = chunks()
    real = mask.reshape(len(mask), -1).any(-1)
    return codec.fitted(without_padding(given[real], mask[real]))


def vocabulary_ids(tokens: np.ndarray, vocabulary: int, *, reserved: int = 0) -> np.ndarray:
    """Return the ids of tokens in a language model's vocabulary of that size, counted down from its end.

    The last `reserved` entries are left alone. OpenVLA: Llama-2's 32000 entries, none reserved, so that -1 is 31999, 0
    is 31872 and +1 is 31744. pi0-FAST: PaliGemma's 257152, of which the last 128 are reserved. Its own inverse.
    """
    return vocabulary - 1 - reserved - np.asarray(tokens)
