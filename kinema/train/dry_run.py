"""What one step costs, measured without writing a file or changing a weight."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from kinema.core.errors import KinemaError
from kinema.heads.base import LearnsInStages
from kinema.nets.ema import named_weights
from kinema.train.config import TrainConfig
from kinema.train.optim import freeze
from kinema.train.step import (
    Batch,
    Network,
    as_module,
    choose_precision,
    global_rng_kept,
    seeded,
    summed_loss,
    to_tensors,
)


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """One step's loss, its time, an estimate of peak memory, the parameter counts and the parameters without gradient.

    `memory_bytes` adds up weights, gradients, both moments, the average and `activation_bytes`, what the forward pass
    keeps for the backward pass; it leaves out temporary buffers of single operations, the data and the libraries
    themselves.
    """

    loss: float
    step_s: float
    memory_bytes: int
    activation_bytes: int
    parameters: int
    trainable_parameters: int
    without_gradient: tuple[str, ...]
    precision: str


def dry_run(network: Network, batch: Batch, config: TrainConfig, *, device: str | torch.device = "cpu") -> DryRun:
    """Return the cost of one step (the second of two); weights, buffers and modes stay as they are.

    Parameters that `config` freezes for good are frozen.
    """
    device = torch.device(device)
    module = as_module(network).to(device)
    freeze(module, config.optim)
    precision = choose_precision(config.precision, device)
    tensors = to_tensors(batch, device)
    trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
    kept = {name: weight.clone() for name, weight in named_weights(module).items() if name not in trainable}
    modes = [(part, part.training) for part in module.modules()]
    activations: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in module.parameters()}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            activations[storage.data_ptr()] = storage.nbytes()
        return tensor

    with global_rng_kept(device):
        try:
            module.train()
            rng = seeded(torch.Generator(device=device), "train", config.seed, 0)
            module.zero_grad(set_to_none=True)
            with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                _step(network, tensors, rng, precision)
            rng = seeded(rng, "train", config.seed, 0)
            loss, step_s = _timed(network, tensors, rng, precision)
            without = _without_gradient(network, tensors, rng, precision)
        finally:
            module.zero_grad(set_to_none=True)
            for part, training in modes:
                part.training = training
            weights = named_weights(module)
            for name, weight in kept.items():
                weights[name].copy_(weight)
    copies = 3 + bool(config.ema_decay)
    weight_bytes = sum(w.numel() * w.element_size() for w in (*module.parameters(), *module.buffers()))
    trained_bytes = sum(p.numel() * p.element_size() for p in trainable.values())
    return DryRun(
        loss=loss,
        step_s=step_s,
        memory_bytes=weight_bytes + copies * trained_bytes + sum(activations.values()),
        activation_bytes=sum(activations.values()),
        parameters=sum(p.numel() for p in module.parameters()),
        trainable_parameters=sum(p.numel() for p in trainable.values()),
        without_gradient=without,
        precision=precision,
    )


def _without_gradient(network: Network, tensors: Batch, rng: torch.Generator, precision: str) -> tuple[str, ...]:
    """Return which trainable parameters have no gradient of the steps so far, or of one in a head's next stage."""
    module = as_module(network)
    staged = [part for part in module.modules() if isinstance(part, LearnsInStages)]
    for part in staged:
        part.end_stage()
    if staged:
        _step(network, tensors, rng, precision)
    return tuple(name for name, p in module.named_parameters() if p.requires_grad and p.grad is None)


def _timed(network: Network, tensors: Batch, rng: torch.Generator, precision: str) -> tuple[float, float]:
    began_s = time.perf_counter()
    loss = _step(network, tensors, rng, precision)
    return loss, time.perf_counter() - began_s


def _step(network: Network, tensors: Batch, rng: torch.Generator, precision: str) -> float:
    total, count = summed_loss(network, tensors, rng, precision)
    if not count:
        raise KinemaError("the mask of the batch keeps no step")
    loss = total / count
    loss.backward()
    value = float(loss.detach())
    if not math.isfinite(value):
        raise KinemaError(f"the loss of the first batch is {value}")
    return value
