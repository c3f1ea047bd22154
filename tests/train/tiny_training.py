"""A small training, importable and runnable: `python tiny_training.py RUN [SECONDS_PER_STEP]`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kinema.train.config import TrainConfig
from kinema.train.loop import fit
from kinema.train.optim import OptimConfig


class Tiny(nn.Module):
    """Two layers with dropout and batch norm, noise from the generator: every kind of state and randomness."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.net = nn.Sequential(
                nn.Linear(3, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, 4)
            )

    def loss(self, batch: dict[str, Any], rng: torch.Generator) -> torch.Tensor:
        """Return squared errors (B, 4) with noise on the target."""
        noise = 0.1 * torch.randn(batch["action"].shape, generator=rng)
        return (self.net(batch["vector.x"]) - batch["action"] - noise) ** 2


def batch_of(step: int) -> dict[str, Any]:
    """Return the batch of one step."""
    rng = np.random.default_rng(step)
    x = rng.normal(size=(6, 3)).astype(np.float32)
    mask = rng.random((6, 4)) < 0.8
    return {"vector.x": x, "action": np.tile(x[:, :1], (1, 4)), "mask": mask, "instruction": ["go"] * 6}


def batches(start: int, *, step_s: float = 0.0) -> Iterator[dict[str, Any]]:
    """Yield the batches from `start` on."""
    while True:
        time.sleep(step_s)
        yield batch_of(start)
        start += 1


def held_out() -> Iterator[dict[str, Any]]:
    """Return two batches that training does not see."""
    return iter([batch_of(10**6), batch_of(10**6 + 1)])


def config(**changes: Any) -> TrainConfig:
    """Return the configuration of the small training."""
    optim = OptimConfig(learning_rate=1e-2, warmup_steps=5, weight_decay=0.01)
    given = {"steps": 60, "batch_size": 6, "optim": optim, "precision": "fp32", "ema_decay": 0.99}
    return TrainConfig(**{**given, "log_every": 1, "checkpoint_every": 7, "evaluate_every": 20, **changes})


if __name__ == "__main__":
    torch.set_num_threads(1)
    pause = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    result = fit(
        Tiny(),
        lambda start: batches(start, step_s=pause),
        config(),
        Path(sys.argv[1]),
        held_out=held_out,
        progress=sys.stderr,
    )
    sys.stdout.write(f"{result.status} {result.step}\n")
