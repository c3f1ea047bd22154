"""Exponential moving average of weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kinema.core.errors import KinemaError

POWER = 0.75


def decay_at(step: int, maximum: float) -> float:
    """Return the decay after the `step`-th optimiser step (from 1): min(maximum, 1 - step^-0.75).

    The first step copies the weights; .994 at 1 000 and .999 at 10 000 steps. The power and the maximum of 0.9999 are
    those of Diffusion Policy (Chi et al. 2023).
    """
    if step < 1:
        raise KinemaError(f"the moving average counts steps from 1, not {step}")
    return min(maximum, 1.0 - 1.0 / math.pow(step, POWER))


def named_weights(module: nn.Module) -> dict[str, Tensor]:
    """Return the module's own parameters and persistent buffers by name, live, each shared tensor once."""
    seen: set[int] = set()
    found: dict[str, Tensor] = {}
    for name, value in module.state_dict(keep_vars=True).items():
        if not isinstance(value, Tensor):
            raise KinemaError(f"{name!r} of the network is {type(value).__name__}, not a tensor: it cannot be saved")
        if id(value) not in seen:
            seen.add(id(value))
            found[name] = value.detach()
    return found


class Ema:
    """Averages the trainable parameters of a network; buffers are copied, frozen parameters shared."""

    def __init__(self, model: nn.Module, maximum: float) -> None:
        """Start from the weights of `model`; `maximum` is the largest decay, below 1."""
        if not 0.0 < maximum < 1.0:
            raise KinemaError(f"the decay of the moving average must lie between 0 and 1, not {maximum}")
        self.maximum = maximum
        trainable = {name for name, p in model.named_parameters() if p.requires_grad}
        frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
        weights = named_weights(model)
        self._averaged = tuple(name for name in weights if name in trainable)
        self._copied = tuple(name for name in weights if name not in trainable and name not in frozen)
        self.state: dict[str, Tensor] = {n: w if n in frozen else w.clone() for n, w in weights.items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the weights of `model` after its `step`-th optimiser step, counted from 1."""
        weights = named_weights(model)
        toward = 1.0 - decay_at(step, self.maximum)
        for name in self._averaged:
            self.state[name].lerp_(weights[name], toward)
        for name in self._copied:
            self.state[name].copy_(weights[name])

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Write the averaged weights and the copied buffers into `model`."""
        for name, weight in named_weights(model).items():
            weight.copy_(self.state[name])

    @contextmanager
    def swapped(self, model: nn.Module) -> Iterator[None]:
        """Give `model` the averaged weights for a while; its own, buffers included, come back exactly."""
        changed = (*self._averaged, *self._copied)
        weights = named_weights(model)
        kept = {name: weights[name].clone() for name in changed}
        try:
            self.copy_to(model)
            yield
        finally:
            for name, weight in kept.items():
                weights[name].copy_(weight)
