"""Numbers by formula: weights for goldens that need not be stored, the same for whoever knows name and shape."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np


def uniform(name: str, shape: Sequence[int]) -> np.ndarray:
    """Return numbers in [-1, 1) that `name` decides: counters through the finaliser of MurmurHash3 (Appleby)."""
    count = int(np.prod(shape))
    bits = np.arange(count, dtype=np.uint32) + np.uint32(zlib.crc32(name.encode()))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        bits ^= bits >> np.uint32(shift)
        bits *= np.uint32(factor)
    bits ^= bits >> np.uint32(16)
    return (bits.astype(np.float32) / np.float32(2**31) - 1).reshape(shape)


def weights(name: str, shape: Sequence[int]) -> np.ndarray:
    """Return what the weight `name` of a network is: matrices that keep the size of what they map, rest near 0 or 1."""
    numbers = uniform(name, shape)
    last = name.rsplit(".", 1)[-1]
    if len(shape) > 1 and last not in ("cluster_size", "embed_avg"):
        return numbers * np.float32((3.0 / np.prod(shape[1:])) ** 0.5)
    if last in ("weight", "running_var", "cluster_size"):
        return 1 + numbers / 4
    return numbers / 10


def pixels(name: str, shape: Sequence[int]) -> np.ndarray:
    """Return uint8 noise."""
    return ((uniform(name, shape) + 1) * 128).clip(0, 255).astype(np.uint8)
