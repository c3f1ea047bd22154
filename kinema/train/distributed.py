"""Several processes that train one network, as `torchrun` starts them: torch.distributed in as few words as possible.

Each process has its part of every batch. The sum of all their losses is divided by the number of steps that all of
them keep, so that the training is that of one process with the whole batch, but for the rounding of sums.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from kinema.core.errors import KinemaError, UnavailableError
from kinema.core.rng import seed_of
from kinema.heads.base import LearnsInStages
from kinema.nets.noise import Rng
from kinema.train.spread import copied, sharded
from kinema.train.step import Batch, Network, as_module, seeded

_LOST = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe")


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Number `rank` of `world` processes, `local` of them on this machine; rank 0 writes, the others are silent.

    `started` says that `torchrun` started it, if only it alone: its noise is then drawn sample by sample.
    """

    device: torch.device
    rank: int = 0
    world: int = 1
    local: int = 1
    started: bool = False

    @property
    def first(self) -> bool:
        """Whether this process writes what all have made."""
        return self.rank == 0

    def part(self, batch: Batch) -> dict[str, Any]:
        """Return this process's samples of the whole `batch`; raises KinemaError where they cannot be shared out."""
        size = len(batch["mask"])
        if size % self.world:
            raise KinemaError(f"a batch of {size} samples cannot be shared by {self.world} processes")
        own = size // self.world
        return {key: value[own * self.rank : own * (self.rank + 1)] for key, value in batch.items()}

    def sums(self, *values: float) -> list[float]:
        """Return the sum over all processes of each of `values`."""
        if self.world == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def noise(self, rng: torch.Generator, samples: int, *parts: str | int) -> Rng:
        """Return the randomness of one step, which `parts` name, for this process's `samples`.

        That is `rng`, seeded, for a process alone; of several, a generator for each sample by its place in the batch.
        """
        if not self.started:
            return seeded(rng, *parts)
        torch.manual_seed(seed_of("global", *parts, self.rank))
        places = range(self.rank * samples, (self.rank + 1) * samples)
        return [torch.Generator(device=self.device).manual_seed(seed_of(*parts, place)) for place in places]

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Let the first process go before the others, as one that writes what they then read."""
        if not self.first:
            self.sums(0)
        yield
        if self.first:
            self.sums(0)

    def agreed(self, what: str, value: int) -> int:
        """Return `value`, which must be the same in every process."""
        if self.world > 1:
            values = [torch.zeros((), dtype=torch.int64, device=self.device) for _ in range(self.world)]
            dist.all_gather(values, torch.tensor(value, dtype=torch.int64, device=self.device))
            found = [int(other) for other in values]
            if len(set(found)) > 1:
                raise KinemaError(
                    f"the processes disagree on {what}: {found}\n"
                    "fix: a run directory and data that all of them see, and the same command for each"
                )
        return value

    def spread(self, network: Network, *, shard: bool) -> Network:
        """Return `network` as it is trained: its gradients become the mean over all processes.

        Each keeps a copy of it (DDP), or with `shard` a part of every tensor (FSDP2). Several raise KinemaError for a
        head that learns in stages: its buffers follow samples, of which each process would see its own part alone.
        """
        staged = [part for part in as_module(network).modules() if isinstance(part, LearnsInStages)]
        if staged and self.world > 1:
            raise KinemaError(
                f"{type(staged[0]).__name__} learns its quantiser from whole batches, and {self.world} processes have "
                "a part of each\nfix: train it in one process"
            )
        if not self.started:
            if shard:
                raise KinemaError(
                    "shard splits a network between processes, and there is one\nfix: torchrun, or no shard"
                )
            return network
        if shard:
            return sharded(network, self.device, self.world)
        return network if self.world == 1 else copied(network)


ALONE = Processes(device=torch.device("cpu"))


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Yield what `torchrun` started together, joined; without it this process alone.

    Each process of a machine takes an accelerator of its own when `device` is "cuda". When one of them dies, or raises,
    the others end with an UnavailableError.
    """
    told = {name: os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")}
    if told["RANK"] is None:
        yield Processes(device=torch.device(device))
        return
    missing = [name for name, value in told.items() if value is None]
    if missing:
        raise KinemaError(f"RANK is set, but not {', '.join(missing)}\nfix: start with torchrun, or unset RANK")
    own = torch.device(f"cuda:{told['LOCAL_RANK']}" if device == "cuda" else device)
    if own.type == "cuda":
        torch.cuda.set_device(own)
    dist.init_process_group("nccl" if own.type == "cuda" else "gloo", timeout=datetime.timedelta(minutes=30))
    rank, world = dist.get_rank(), dist.get_world_size()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    with _lost_peers(rank):
        yield Processes(rank=rank, world=world, local=local, started=True, device=own)
    dist.destroy_process_group()


@contextmanager
def _lost_peers(rank: int) -> Iterator[None]:
    """Turn what torch says when another process has gone into an UnavailableError."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or any(word in str(error) for word in _LOST):
            raise UnavailableError(
                f"process {rank}: another process of this training has ended, so this one does: {error!s:.200}\n"
                "the same command goes on from the last checkpoint"
            ) from error
        raise
