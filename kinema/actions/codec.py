"""What every tokenizer of actions offers: real numbers to whole numbers and back, with the error said."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np


class Codec(ABC):
    """Maps each number to one token and back; frozen, elementwise, any shape."""

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of tokens: they are 0 to `size` - 1."""

    @abstractmethod
    def encode(self, values: np.ndarray) -> np.ndarray:
        """Return the tokens (...) int64 of `values` (...); raises KinemaError for what is not finite."""

    @abstractmethod
    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """Return the values (...) float64 of `tokens` (...); raises KinemaError for a token that does not exist."""
