"""LoRA adapters in a network, by PEFT: put in, switched, merged."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kinema.core.errors import KinemaError
from kinema.core.patterns import matched, matches
from kinema.nets.lora import Lora

STORED = "default"
"""What adapters are called in a file."""


def adapt(network: nn.Module, lora: Lora, *, own: Iterable[str] = ()) -> tuple[str, ...]:
    """Put adapters into `network` and return the names of the adapted layers; from then on only `lora` trains.

    The state dict then leaves out what comes from the base: it holds adapters, trained parts and `own`, weights by
    name. A pattern that matches nothing, a layer that both is a target and trains, and a base whose running statistics
    training would move are KinemaErrors.
    """
    targets, parameters = _targets(network, lora), dict(network.named_parameters())
    trained = matched(lora.train, parameters, option="lora.train", kind="parameter")
    for name in targets:
        if f"{name}.weight" in trained:
            raise KinemaError(f"lora: {name!r} is among the targets and trains as a whole; one must do")
    trains = [parameters[name] for name in trained if parameters[name].requires_grad]
    kept = {name for name in _buffers(network) if any(matches(pattern, name) for pattern in lora.train)}
    kept |= {_inside(name, targets) for name in own}
    _refuse_moving(network, kept)
    _inject(network, lora, targets, STORED)
    for parameter in trains:
        parameter.requires_grad_(True)
    kept |= {name for name, parameter in network.named_parameters() if parameter.requires_grad}

    def keep_own(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
        for name in [name for name in state if name.startswith(prefix) and name[len(prefix) :] not in kept]:
            del state[name]

    network.register_state_dict_post_hook(keep_own)
    return tuple(targets)


def add(network: nn.Module, lora: Lora, name: str) -> dict[str, Tensor]:
    """Put further adapters called `name` into an adapted `network`; returns them by what they are called in a file."""
    _inject(network, lora, _targets(network, lora), name)
    return adapters(network, name)


def adapters(network: nn.Module, name: str = STORED) -> dict[str, Tensor]:
    """Return the live adapters called `name` by what they are called in a file."""
    own = re.compile(rf"(\.lora_[AB]\.){re.escape(name)}\.")
    found = {own.sub(rf"\1{STORED}.", full): p for full, p in network.named_parameters() if own.search(full)}
    return {full: parameter.detach() for full, parameter in found.items()}


def use(network: nn.Module, name: str) -> None:
    """Let the adapters called `name` act, and no others."""
    for part in network.modules():
        if isinstance(part, LoraLayer):
            part.set_adapter([name])


@torch.no_grad()
def merged(network: nn.Module) -> dict[str, Tensor]:
    """Return all weights of `network` as if it had no adapters: W + alpha / rank B A for W, where they act."""
    parts = [part.state_dict(prefix=f"{name}.") for name, part in network.named_children()]  # the whole leaves some out
    found = {name: tensor for part in parts for name, tensor in part.items() if ".lora_" not in name}
    for name, part in network.named_modules():
        if isinstance(part, LoraLayer):
            for own in part.active_adapters:
                if own in part.lora_A:
                    place = f"{name}.base_layer.weight"
                    found[place] = found[place] + part.get_delta_weight(own)
    return {name.replace(".base_layer.", "."): tensor for name, tensor in found.items()}


def _targets(network: nn.Module, lora: Lora) -> Sequence[str]:
    """Return the names of the linear layers that `lora` adapts, in order; a special kind of layer is none."""
    found: list[str] = []
    for name, part in network.named_modules():
        inside = bool(found) and name.startswith(f"{found[-1]}.")
        if (type(part) is nn.Linear or isinstance(part, LoraLayer)) and not inside:
            found.append(name)
    chosen = matched(lora.targets, found, option="lora.targets", kind="linear layer")
    return [name for name in found if name in chosen]


def _inject(network: nn.Module, lora: Lora, targets: Sequence[str], name: str) -> None:
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="|".join(map(re.escape, targets)),  # matched as a whole: a list would match endings
        bias="none",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT warns of adapters beside others, which is what is asked for
        inject_adapter_in_model(config, network, name)
    for part in network.modules():
        if isinstance(part, LoraLayer) and name in part.lora_A:
            part.lora_A[name].float()  # what trains is float32, whatever the base is kept in
            part.lora_B[name].float()


def _buffers(network: nn.Module) -> list[str]:
    parameters = dict(network.named_parameters(remove_duplicate=False))
    return [name for name in network.state_dict() if name not in parameters]


def _inside(name: str, targets: Sequence[str]) -> str:
    """Return what the weight `name` is called once `targets` are adapted."""
    layer, _, last = name.rpartition(".")
    return f"{layer}.base_layer.{last}" if layer in targets else name


def _refuse_moving(network: nn.Module, kept: set[str]) -> None:
    """Raise KinemaError for a batch norm of the base whose statistics would follow the training."""
    modes = [(part, part.training) for part in network.modules()]
    network.train()
    moving = [
        name
        for name, part in network.named_modules()
        if isinstance(part, _BatchNorm) and part.training and part.track_running_stats
        if f"{name}.running_mean" not in kept
    ]
    for part, training in modes:
        part.training = training
    if moving:
        raise KinemaError(
            f"lora: training would move the running statistics of {moving[0]!r} in the base\n"
            "fix: name it in lora.train, or build it with a norm that keeps none"
        )
