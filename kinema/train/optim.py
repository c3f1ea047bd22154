"""AdamW with decoupled weight decay on matrices only, its learning-rate schedule, and what trains when and how fast."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kinema.core.errors import KinemaError
from kinema.core.patterns import matched


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW (Loshchilov & Hutter 2019): linear warm-up, then a cosine down to `min_lr_fraction` of `learning_rate`.

    `clip_norm` bounds the norm of the whole gradient; None measures it only.

    `groups` maps patterns of parameter names to what multiplies their learning rate: {"trunk": 0.1}. `freeze` maps
    patterns to the first step that moves their parameters, None for never: {"encoders.*": 500}. Until then they have no
    part in the gradient's norm, no decay and no moments; the schedule of the learning rate does not wait for them.
    """

    learning_rate: float = 1e-4
    weight_decay: float = 1e-6
    betas: tuple[float, float] = (0.95, 0.999)
    eps: float = 1e-8
    warmup_steps: int = 500
    clip_norm: float | None = 1.0
    min_lr_fraction: float = 0.0
    groups: Mapping[str, float] = field(default_factory=dict)
    freeze: Mapping[str, int | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sound = {
            "learning_rate": self.learning_rate > 0,
            "weight_decay": self.weight_decay >= 0,
            "betas": len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            "eps": self.eps > 0,
            "warmup_steps": self.warmup_steps >= 0,
            "clip_norm": self.clip_norm is None or self.clip_norm > 0,
            "min_lr_fraction": 0 <= self.min_lr_fraction <= 1,
            "groups": all(factor > 0 for factor in self.groups.values()),
            "freeze": all(step is None or step > 0 for step in self.freeze.values()),
        }
        for name, good in sound.items():
            if not good:
                raise KinemaError(f"optim.{name}: {getattr(self, name)!r} is out of range")


def learning_rate_at(step: int, config: OptimConfig, total: int) -> float:
    """Return the learning rate of step `step`, counted from 0, of `total`.

    Step s of the warm-up uses (s + 1) / (warmup_steps + 1) of the peak; step `warmup_steps` is the first at the peak,
    and the cosine reaches `min_lr_fraction` of it with step `total`, the first that is not taken.
    """
    warmup = config.warmup_steps
    if warmup >= total:
        raise KinemaError(f"optim.warmup_steps: {warmup} must be below steps, {total}")
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    progress = min(1.0, (step - warmup) / (total - warmup))
    cosine = 0.5 * (1.0 + math.cos(math.pi * progress))
    return config.learning_rate * (config.min_lr_fraction + (1.0 - config.min_lr_fraction) * cosine)


def decayed(network: nn.Module) -> dict[str, bool]:
    """Return for each trainable parameter's name whether weight decay applies to it.

    It does not for biases, 1-D tensors, parameters of normalisation and embedding modules, and parameters whose own
    name speaks of an embedding or a position (learnt positions kept as bare tensors). A shared parameter is spared
    when any of its owners is.
    """
    spared: set[int] = set()
    for module in network.modules():
        kind = type(module).__name__.lower()
        for name, parameter in module.named_parameters(recurse=False):
            own = "norm" in kind or isinstance(module, (nn.Embedding, nn.EmbeddingBag)) or parameter.ndim < 2
            if own or "bias" in name or "embed" in name or "position" in name:
                spared.add(id(parameter))
    return {name: id(p) not in spared for name, p in network.named_parameters() if p.requires_grad}


def freeze(network: nn.Module, config: OptimConfig) -> None:
    """Take the gradients from the parameters that `config` freezes for good.

    A pattern that matches no trainable parameter is a KinemaError, unless what it matches is frozen already.
    """
    names = [name for name, _ in network.named_parameters()]
    for name, pattern in matched(config.freeze, names, option="optim.freeze", kind="parameter").items():
        if config.freeze[pattern] is None:
            network.get_parameter(name).requires_grad_(False)


def held(network: nn.Module, config: OptimConfig, total: int) -> list[tuple[int, nn.Parameter]]:
    """Return the trainable parameters that `config` freezes for a while, each after the first step that moves it."""
    trainable = {name: p for name, p in network.named_parameters() if p.requires_grad}
    first = {pattern: step for pattern, step in config.freeze.items() if step is not None}
    for pattern, step in first.items():
        if step >= total:
            raise KinemaError(f"optim.freeze: {pattern!r} until step {step} of {total}; None freezes for good")
    chosen = matched(first, trainable, option="optim.freeze", kind="trainable parameter")
    return [(first[pattern], trainable[name]) for name, pattern in chosen.items()]


def build_optimizer(network: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """Return AdamW over the trainable parameters of `network`, its moments already there as zeros.

    Each group of parameters has a `factor` of the learning rate beside its weight decay, which
    `set_learning_rate` uses. A network without trainable parameters, or with trainable ones in half precision (small
    updates would round to nothing), is a KinemaError.
    """
    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    if not parameters:
        raise KinemaError("the network has no trainable parameters")
    for name, parameter in parameters.items():
        if parameter.dtype not in (torch.float32, torch.float64):
            raise KinemaError(f"trainable parameter {name!r} is {parameter.dtype}: keep what is trained in float32")
    which = decayed(network)
    slower = matched(config.groups, parameters, option="optim.groups", kind="trainable parameter")
    factor = {name: config.groups[slower[name]] if name in slower else 1.0 for name in parameters}
    groups: list[dict[str, Any]] = [
        {
            "params": [p for name, p in parameters.items() if (factor[name], which[name]) == (speed, decay)],
            "weight_decay": config.weight_decay if decay else 0.0,
            "factor": speed,
        }
        for speed in dict.fromkeys([1.0, *config.groups.values()])
        for decay in (True, False)
    ]
    groups = [group for group in groups if group["params"]]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True)
    for parameter in parameters.values():
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
        }
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group of `optimizer` the learning rate `rate` times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def named_moments(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's live tensors as `<parameter>.step`, `.exp_avg` and `.exp_avg_sq`."""
    return {
        f"{name}.{part}": tensor
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
        for part, tensor in optimizer.state[parameter].items()
    }
