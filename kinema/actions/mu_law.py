"""Mu-law companding: fine bins near zero, coarse ones far from it (Reed et al. 2022, "A Generalist Agent").

F(x) = sgn(x) log(|x| mu + 1) / log(M mu + 1) with mu = 100 and M = 256, then 1024 uniform bins of [-1, 1]. These are
Gato's constants, not those of WaveNet (mu = 255, M = 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kinema.actions.codec import Elementwise
from kinema.core.errors import KinemaError


@dataclass(frozen=True, kw_only=True)
class MuLaw(Elementwise):
    """Companded bins of values from -`limit` to `limit`; what lies outside goes to the first or last one."""

    mu: float = 100.0
    limit: float = 256.0
    bins: int = 1024

    def __post_init__(self) -> None:
        if not (self.mu > 0 and self.limit > 0 and self.bins >= 2):
            raise KinemaError(
                f"mu-law: mu {self.mu} and limit {self.limit} must be above 0, bins {self.bins} at least 2"
            )

    @property
    def size(self) -> int:
        """The number of tokens."""
        return self.bins

    def compress(self, values: np.ndarray) -> np.ndarray:
        """Return F of `values`, in [-1, 1] for values within the limit."""
        values = np.asarray(values, np.float64)
        return np.sign(values) * np.log1p(np.abs(values) * self.mu) / np.log1p(self.limit * self.mu)

    def expand(self, values: np.ndarray) -> np.ndarray:
        """Return the inverse of `compress`."""
        values = np.asarray(values, np.float64)
        return np.sign(values) * np.expm1(np.abs(values) * np.log1p(self.limit * self.mu)) / self.mu

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Return the tokens (...) int64 of `values` (...)."""
        if not np.isfinite(values).all():
            raise KinemaError("mu-law: a value is not finite, and has no token")
        tokens = np.floor((self.compress(values) + 1) / 2 * self.bins).astype(np.int64)
        return np.clip(tokens, 0, self.bins - 1)

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """Return the values (...) float64 at the centres of the bins of `tokens` (...)."""
        tokens = np.asarray(tokens)
        if not np.issubdtype(tokens.dtype, np.integer):
            raise KinemaError(f"mu-law: tokens are {tokens.dtype}, expected whole numbers")
        if tokens.size and not (0 <= tokens.min() and tokens.max() < self.bins):
            raise KinemaError(f"mu-law: tokens {tokens.min()} to {tokens.max()}, expected 0 to {self.bins - 1}")
        return self.expand((tokens + 0.5) / self.bins * 2 - 1)

    @property
    def edges(self) -> np.ndarray:
        """The smallest value of every token but the first, (bins - 1,) float64."""
        return self.expand(np.arange(1, self.bins) / self.bins * 2 - 1)
