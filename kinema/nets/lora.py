"""LoRA, said: which layers of a network get a low-rank update, and what trains beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kinema.core.errors import KinemaError


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Linear layers among `targets` become W x + `alpha` / `rank` B A x; only A and B train (Hu et al. 2022, eq. 3).

    `targets` and `train` are patterns of names: `trunk`, `encoders.*`, `*.q_proj`. What `train` names trains as a
    whole, and nothing else does. B starts at 0, so that training starts from the base; `dropout` is of x.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ("trunk",)
    train: tuple[str, ...] = ("head",)

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1 or not self.targets:
            raise KinemaError(
                f"lora: rank {self.rank} (1 or more), alpha {self.alpha} (above 0), dropout {self.dropout} (0 to below "
                f"1) or targets {list(self.targets)} (one or more) is out of range"
            )


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """What `policy.json` says of a policy whose weights file holds adapters and trained parts alone.

    The other weights are those of the directory `base`, seen from that of the policy; `fresh` are the parts that were
    not taken from there, and `sha256` is the `digest` of those that were.
    """

    lora: Lora
    base: str
    sha256: str
    fresh: tuple[str, ...] = ()


def digest(weights: Mapping[str, Tensor]) -> str:
    """Return the sha256 of `weights`: of their names, shapes, dtypes and numbers."""
    found = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        found.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
