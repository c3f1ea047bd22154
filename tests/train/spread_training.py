"""A small training for several processes: `python spread_training.py OUT`, with what torchrun sets, runs each kind."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kinema.core.errors import KinemaError
from kinema.nets.noise import Rng, normal
from kinema.train.config import TrainConfig
from kinema.train.distributed import Processes, processes
from kinema.train.loop import fit
from kinema.train.optim import OptimConfig

STEPS = 12


class Layered(nn.Module):
    """Layers in a list, one that some steps do not use, and noise sample by sample."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.first = nn.Linear(3, 6)
            self.layers = nn.ModuleList([nn.Linear(6, 6) for _ in range(2)])
            self.head, self.rare = nn.Linear(6, 4), nn.Linear(6, 4)

    def loss(self, batch: dict[str, Any], rng: Rng) -> torch.Tensor:
        """Return squared errors (B, 4)."""
        hidden = torch.tanh(self.first(batch["vector.x"]))
        for layer in self.layers:
            hidden = hidden + torch.tanh(layer(hidden))
        said = self.head(hidden)
        if bool(batch["rare"].any()):
            said = said + self.rare(hidden)
        return (said - batch["action"] - 0.1 * normal(said.shape, rng, said.device)) ** 2


def batches(start: int) -> Iterator[dict[str, Any]]:
    """Yield the whole batches from `start` on; the mask keeps more of some samples than of others."""
    while True:
        rng = np.random.default_rng(start)
        x = rng.normal(size=(4, 3)).astype(np.float32)
        rare = np.full(4, start % 3 == 2)
        yield {"vector.x": x, "action": np.tile(x[:, :1], (1, 4)), "mask": rng.random((4, 4)) < 0.6, "rare": rare}
        start += 1


def config(**changes: Any) -> TrainConfig:
    """Return the configuration of the training."""
    optim = OptimConfig(
        learning_rate=1e-2,
        warmup_steps=2,
        weight_decay=0.01,
        groups={"head": 0.5},
        freeze={"first": 4, "rare.bias": None},
    )
    given = {"steps": STEPS, "batch_size": 4, "optim": optim, "precision": "fp32", "ema_decay": 0.9}
    return TrainConfig(**{**given, "log_every": 1, "checkpoint_every": 5, "evaluate_every": 6, **changes})


def train(out: Path, group: Processes, *, stop: int | None = None, **changes: Any) -> str:
    """Train into `out` and return how it ended; with `stop` every process is interrupted in that step."""

    def interrupted(start: int) -> Iterator[dict[str, Any]]:
        for step, batch in enumerate(batches(start), start):
            if step == stop and group.first:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    held_out = lambda: (batch for _, batch in zip(range(2), batches(10**6)))  # noqa: B905, E731
    return fit(Layered(), interrupted, config(**changes), out, held_out=held_out, group=group).status


def all_kinds(out: Path, group: Processes) -> None:
    """Train with copies and with shards, in parts, and to be gone on with by another number of processes."""
    train(out / "copies", group)
    train(out / "shards", group, shard=True, stop=6)
    train(out / "shards", group, shard=True)
    train(out / "from-two", group, shard=True, stop=6)
    train(out / "from-one", group)


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        with processes("cpu") as joined:
            if len(sys.argv) > 2:
                (Path(sys.argv[1]) / f"pid-{joined.rank}").write_text(str(os.getpid()))
                train(Path(sys.argv[1]), joined, steps=10**6)
            all_kinds(Path(sys.argv[1]), joined)
    except KinemaError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
