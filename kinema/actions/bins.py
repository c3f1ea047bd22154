"""Uniform bins in the four conventions of the field, which differ in edges, rounding and what a token decodes to.

- `rt1` (RT-1) truncates: errors up to 7.84e-3 of [-1, 1], with a bias of -3.92e-3.
- `openvla` (OpenVLA): a token for each of 256 edges, decoded to the 255 centres between them, the last twice: errors
  up to 3.92e-3, 0 is exact.
- `centred` (Octo): 256 centres between 257 edges: errors up to 3.91e-3, 0 decodes to +3.91e-3.
- `left_edge` (openpi's states and its binning tokenizer): 256 bins, each decoded to its lower edge: up to 7.81e-3.

Brohan et al. 2022 (RT-1), Kim et al. 2024 (OpenVLA), Octo Model Team 2024; Black et al. 2024 (pi0) for openpi.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from kinema.actions.codec import Elementwise
from kinema.core.errors import KinemaError, unknown

Convention = Literal["rt1", "openvla", "centred", "left_edge"]
_BINS = {"rt1": 255, "openvla": 255, "centred": 256, "left_edge": 256}
_TOKENS = 256


@dataclass(frozen=True, kw_only=True)
class Bins(Elementwise):
    """Uniform bins from `low` to `high`; what lies outside goes to the first or last one.

    All conventions have 256 tokens, as their published checkpoints do.
    """

    convention: Convention
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.convention not in _BINS:
            raise unknown("binning convention", self.convention, _BINS)
        if not (np.isfinite([self.low, self.high]).all() and self.low < self.high):
            raise KinemaError(f"bins from {self.low} to {self.high}: expected two finite numbers in order")

    @property
    def size(self) -> int:
        """The number of tokens."""
        return _TOKENS

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Return the tokens (...) int64 of `values` (...)."""
        values = np.asarray(values, np.float64)
        if not np.isfinite(values).all():
            raise KinemaError("bins: a value is not finite, and has no token")
        clipped = np.clip(values, self.low, self.high)
        if self.convention == "rt1":
            # int() of the reference truncates, so that every value decodes to at most itself.
            return ((clipped - self.low) / (self.high - self.low) * _BINS["rt1"]).astype(np.int64)
        return np.minimum(np.digitize(clipped, self._edges()) - 1, _TOKENS - 1)

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """Return the values (...) float64 that `tokens` (...) stand for."""
        tokens = np.asarray(tokens)
        if not np.issubdtype(tokens.dtype, np.integer):
            raise KinemaError(f"bins: tokens are {tokens.dtype}, expected whole numbers")
        if tokens.size and not (0 <= tokens.min() and tokens.max() < self.size):
            raise KinemaError(f"bins: tokens {tokens.min()} to {tokens.max()}, expected 0 to {self.size - 1}")
        edges = self._edges()
        if self.convention in ("rt1", "left_edge"):
            return edges[tokens]
        centres: np.ndarray = (edges[:-1] + edges[1:]) / 2
        return centres[np.minimum(tokens, len(centres) - 1)]

    @property
    def edges(self) -> np.ndarray:
        """The smallest value of every token but the first, (255,) float64."""
        return self._edges()[1:_TOKENS]

    def _edges(self) -> np.ndarray:
        return np.linspace(self.low, self.high, _BINS[self.convention] + 1)
