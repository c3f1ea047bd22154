"""One step of training: from a batch of numpy arrays to a reduced loss, the same on every run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from kinema.core.errors import KinemaError, nearest, unknown
from kinema.core.rng import seed_of
from kinema.nets.noise import Rng

Batch = Mapping[str, Any]
"""Key -> numpy array or tensor with leading axis B, or a list of B things; `mask` (B, H) bool: the steps that count."""

PRECISIONS = ("auto", "fp32", "bf16")
_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


class Network(Protocol):
    """What is trained: an `nn.Module` with a loss per predicted step."""

    def loss(self, batch: Mapping[str, Any], rng: Rng) -> Tensor:
        """Return the loss (B, H) of each predicted step, in normalised action space.

        `rng` lives on the device of the training; every random number of the loss comes from it. It is a generator for
        each sample where several processes share a batch, so that what a sample draws does not depend on how.
        """
        ...


def as_module(network: Network) -> nn.Module:
    """Return `network` as the module that it must be."""
    if not isinstance(network, nn.Module):
        raise KinemaError(f"cannot train a {type(network).__name__}: it is no torch.nn.Module")
    return network


def to_tensors(batch: Batch, device: torch.device) -> dict[str, Any]:
    """Return `batch` with tensors on `device` for arrays, dtypes kept; writable arrays are not copied on the CPU."""
    return {key: _tensor(key, value, device) for key, value in batch.items()}


def _tensor(key: str, value: Any, device: torch.device) -> Any:
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        if not value.flags.writeable or any(stride < 0 for stride in value.strides):
            value = value.copy()
        value = torch.from_numpy(value)
    if not isinstance(value, Tensor):
        kind = f"{type(value).__name__} of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise KinemaError(f"batch entry {key!r} is {kind}; expected a numeric array, a tensor or a list")
    return value.to(device, non_blocking=True)


def choose_precision(asked: str, device: torch.device) -> str:
    """Return "fp32" or "bf16"; "auto" is bf16 where the hardware multiplies it natively."""
    if asked not in PRECISIONS:
        raise unknown("precision", asked, PRECISIONS)
    if asked != "auto":
        return asked
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and _cpu_flags() & _BF16_FLAGS else "fp32"


def _cpu_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return set()
    return {flag for line in text.splitlines() if line.startswith("flags") for flag in line.split(":", 1)[1].split()}


def seeded(rng: torch.Generator, *parts: str | int) -> torch.Generator:
    """Return `rng`, seeded by `parts` alone together with torch's global generator (which dropout uses)."""
    torch.manual_seed(seed_of("global", *parts))
    return rng.manual_seed(seed_of(*parts))


@contextmanager
def global_rng_kept(device: torch.device) -> Iterator[None]:
    """Give the caller's global torch generators back as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def summed_loss(network: Network, batch: Batch, rng: Rng, precision: str) -> tuple[Tensor, int]:
    """Return the sum of the losses that the mask keeps, in float32, and their number."""
    mask = batch.get("mask")
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        found = "missing" if mask is None else f"{getattr(mask, 'dtype', type(mask).__name__)}"
        raise KinemaError(f"batch entry 'mask' is {found}; expected (B, H) bool{nearest('mask', batch)}")
    with torch.autocast(mask.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        loss = network.loss(batch, rng)
    if loss.shape != mask.shape:
        raise KinemaError(f"the loss has shape {tuple(loss.shape)}; expected {tuple(mask.shape)}, that of 'mask'")
    loss = loss.float()
    return torch.where(mask, loss, loss.new_zeros(())).sum(), int(mask.sum())
