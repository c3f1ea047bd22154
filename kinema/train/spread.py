"""One network on several processes: copies (DDP), or a part of every tensor on each (FSDP2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from kinema.nets.base import OpensLayers
from kinema.nets.noise import Rng
from kinema.train.step import Network, as_module


def whole(tensors: Mapping[str, Tensor], *, keep: bool = True) -> dict[str, Tensor]:
    """Return `tensors`, those of which each process has a part gathered on the CPU; every process must ask.

    They come one at a time, so that no device holds more than one of them whole. Without `keep` none is returned.
    """
    found = {}
    for name, tensor in tensors.items():
        full = tensor.full_tensor().cpu() if isinstance(tensor, DTensor) else tensor
        if keep:
            found[name] = full
    return found


@torch.no_grad()
def fill(live: Mapping[str, Tensor], full: Mapping[str, Tensor]) -> None:
    """Copy what `whole` returned back into the `live` tensors of which each process has a part."""
    for name, tensor in live.items():
        if isinstance(tensor, DTensor):
            own = full[name].to(tensor.device)
            tensor.copy_(distribute_tensor(own, tensor.device_mesh, tensor.placements))


def number(value: Tensor) -> float:
    """Return the number that `value`, maybe spread over processes, holds."""
    return float(value.full_tensor() if isinstance(value, DTensor) else value)


class _Loss(nn.Module):
    """The network's loss as the forward pass that DDP looks for."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Mapping[str, Any], rng: Rng) -> Tensor:
        return self.network.loss(batch, rng)


class _Copied(nn.Module):
    """A network whose gradients DDP averages."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        # Which parameters a loss uses may change with the step, and with what a batch holds.
        self.copies = DistributedDataParallel(_Loss(network), find_unused_parameters=True)

    def loss(self, batch: Mapping[str, Any], rng: Rng) -> Tensor:
        """Return the loss (B, H) of this process's samples."""
        return self.copies(batch, rng)


def copied(network: Network) -> Network:
    """Return `network` with the mean of all processes' gradients (DDP)."""
    return _Copied(network)


def sharded(network: Network, device: torch.device, world: int) -> Network:
    """Return `network` with its parameters split: those of each layer in a list of layers come together when needed.

    Those of layers that are never called come together with the whole.
    """
    module = as_module(network)
    mesh = init_device_mesh(device.type, (world,))
    layers = [part for parts in module.modules() if isinstance(parts, nn.ModuleList) for part in parts]
    opened = {layer for part in module.modules() if isinstance(part, OpensLayers) for layer in part.opened()}
    for layer in reversed(dict.fromkeys(layers)):  # inner ones first
        called = layer not in opened and type(layer).forward is not nn.Module.forward
        if called and next(layer.parameters(), None) is not None:
            fully_shard(layer, mesh=mesh)
    # The whole is put away after a forward pass too, or one that measures would leave averaged weights for training.
    fully_shard(module, mesh=mesh, reshard_after_forward=True)
    register_fsdp_forward_method(module, "loss")
    return network
