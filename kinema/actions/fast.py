"""FAST: a chunk as few tokens, by cosine transform, rounding and byte pairs (Pertsch et al. 2025, arXiv 2501.09747).

A normalised chunk (H, A) -> DCT-II of each component over time, orthonormal -> round(scale x coefficients) -> whole
numbers, those of the lowest frequency first (section V-B) -> byte pairs. Only rounding loses anything: an RMSE of at
most 1 / (scale sqrt(12)) on average; one number may be off by sqrt(H) / (2 scale).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.fft import dct, idct

from kinema.actions.byte_pairs import BytePairs
from kinema.actions.codec import Codec, Unfitted
from kinema.core.errors import KinemaError

_ROOM = 1.25
"""Length of rows over that of the longest chunk of a fit, for chunks that it did not see."""


@dataclass(frozen=True, kw_only=True)
class FAST(Codec):
    """A fitted tokenizer of chunks, in rows of varying length; made by `fit` or `from_directory`.

    `pairs` takes coefficients counted from `lowest`. Those beyond `lowest` or `highest` become these, and a chunk that
    takes more than `longest` tokens loses its highest frequencies: neither happens to chunks of the fit, of which the
    longest leaves a fifth free.
    """

    pairs: BytePairs
    lowest: int
    highest: int
    longest: int
    scale: float = 10.0

    def __post_init__(self) -> None:
        if not (0 <= self.highest - self.lowest <= self.pairs.largest and self.longest > 0 and self.scale > 0):
            raise KinemaError(
                f"FAST: coefficients {self.lowest} to {self.highest} of a table for {self.pairs.largest + 1}, "
                f"at most {self.longest} tokens, scale {self.scale}; expected a range, and numbers above 0"
            )

    @classmethod
    def fit(cls, chunks: Sequence[np.ndarray], *, scale: float = 10.0, vocabulary: int = 1024) -> FAST:
        """Return the tokenizer of at most `vocabulary` entries for all `chunks` of the training data.

        Each is (H, A), normalised: about within [-1, 1].
        """
        numbers = [_rounded(chunk, scale).ravel() for chunk in chunks]
        if not numbers:
            raise KinemaError("FAST: no chunks to fit")
        lowest, highest = int(min(each.min() for each in numbers)), int(max(each.max() for each in numbers))
        if highest - lowest >= vocabulary:
            raise KinemaError(
                f"FAST: coefficients {lowest} to {highest} have no room in a vocabulary of {vocabulary}: "
                f"normalise the chunks, lower the scale {scale}, or raise the vocabulary"
            )
        pairs = BytePairs.fit([each - lowest for each in numbers], size=vocabulary)
        longest = math.ceil(_ROOM * max(len(pairs.encode(each - lowest)) for each in numbers))
        return cls(pairs=pairs, lowest=lowest, highest=highest, longest=longest, scale=scale)

    @classmethod
    def from_directory(cls, directory: Path, *, longest: int) -> FAST:
        """Return a published tokenizer such as FAST+: tokenizer.json and processor_config.json of transformers."""
        try:
            pairs = BytePairs.from_json(json.loads((directory / "tokenizer.json").read_text("utf-8")))
            settings = json.loads((directory / "processor_config.json").read_text("utf-8"))
            lowest, scale = int(settings["min_token"]), float(settings["scale"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise KinemaError(f"{directory} holds no FAST tokenizer: {type(error).__name__} {error}") from error
        return cls(pairs=pairs, lowest=lowest, highest=lowest + pairs.largest, longest=longest, scale=scale)

    @property
    def size(self) -> int:
        """The entries of the table, and `end`."""
        return len(self.pairs.vocabulary) + 1

    @property
    def end(self) -> int:
        """The token behind those of the table."""
        return len(self.pairs.vocabulary)

    def length(self, pred_horizon: int, action_width: int) -> int:
        """Return `longest` and one for `end`, whatever the chunk."""
        return self.longest + 1

    def encode(self, chunk: np.ndarray) -> np.ndarray:
        """Return the tokens (L,) int64, L at most `longest`, of one normalised chunk (H, A), without `end`."""
        numbers = np.clip(_rounded(chunk, self.scale), self.lowest, self.highest) - self.lowest
        nothing = np.clip(0, self.lowest, self.highest) - self.lowest
        for frequencies in range(len(numbers), 0, -1):
            numbers[frequencies:] = nothing
            tokens = self.pairs.encode(numbers.ravel())
            if len(tokens) <= self.longest:
                return np.array(tokens, np.int64)
        raise KinemaError(f"FAST: a chunk takes {len(tokens)} tokens even if nothing moves, at most {self.longest}")

    def decode(self, tokens: np.ndarray, *, pred_horizon: int, action_width: int) -> np.ndarray:
        """Return the chunk (H, A) float64 of `tokens` (L,) without `end`; a KinemaError for what is no such chunk."""
        tokens = self._checked(tokens)
        numbers = self.pairs.decode(tokens)
        if numbers is None or numbers.max(initial=0) > self.highest - self.lowest:
            raise KinemaError(f"FAST: {len(tokens)} tokens hold bytes that are no coefficient")
        if len(numbers) != pred_horizon * action_width:
            raise KinemaError(
                f"FAST: {len(tokens)} tokens are {len(numbers)} coefficients, expected "
                f"{pred_horizon} steps of {action_width}"
            )
        coefficients = (numbers + self.lowest).reshape(pred_horizon, action_width) / self.scale
        return idct(coefficients, axis=0, norm="ortho")

    def encode_chunks(self, chunks: np.ndarray) -> np.ndarray:
        """Return the tokens (B, longest + 1) int64 of normalised `chunks` (B, H, A), filled up with `end`."""
        rows = np.full((len(chunks), self.longest + 1), self.end, np.int64)
        for row, chunk in zip(rows, chunks, strict=True):
            tokens = self.encode(chunk)
            row[: len(tokens)] = tokens
        return rows

    def decode_chunks(
        self, tokens: np.ndarray, *, pred_horizon: int, action_width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the chunks (B, H, A) float64 of rows `tokens` (B, any), and which rows are no chunk, there NaN."""
        chunks = np.full((len(tokens), pred_horizon, action_width), np.nan)
        for chunk, row in zip(chunks, tokens, strict=True):
            ended = np.flatnonzero(row == self.end)
            kept = self._checked(row[: ended[0]] if ended.size else row)
            try:
                chunk[:] = self.decode(kept, pred_horizon=pred_horizon, action_width=action_width)
            except KinemaError:
                continue  # stays NaN, and is told of
        return chunks, np.isnan(chunks).any((1, 2))

    def _checked(self, tokens: np.ndarray) -> np.ndarray:
        tokens = np.asarray(tokens)
        if not np.issubdtype(tokens.dtype, np.integer):
            raise KinemaError(f"FAST: tokens are {tokens.dtype}, expected whole numbers")
        if tokens.size and not (0 <= tokens.min() and tokens.max() < self.end):
            raise KinemaError(f"FAST: tokens {tokens.min()} to {tokens.max()}, expected 0 to {self.end - 1}")
        return tokens


@dataclass(frozen=True, kw_only=True)
class UnfittedFAST(Unfitted):
    """Becomes what `FAST.fit` makes of the training data."""

    scale: float = 10.0
    vocabulary: int = 1024

    def fitted(self, chunks: np.ndarray) -> FAST:
        """Return the tokenizer of `chunks` (B, H, A)."""
        return FAST.fit(list(chunks), scale=self.scale, vocabulary=self.vocabulary)


def _rounded(chunk: np.ndarray, scale: float) -> np.ndarray:
    """Return the rounded coefficients (H, A) int64 of a chunk, frequency by frequency; a KinemaError if not finite."""
    chunk = np.asarray(chunk, np.float64)
    if chunk.ndim != 2 or chunk.size == 0 or not np.isfinite(chunk).all():
        raise KinemaError(f"FAST: a chunk of shape {chunk.shape}, expected (H, A) finite numbers")
    return np.around(dct(chunk, axis=0, norm="ortho") * scale).astype(np.int64)
