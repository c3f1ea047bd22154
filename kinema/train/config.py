"""What a training is told, and what it says at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kinema.core.errors import KinemaError, unknown
from kinema.train.optim import OptimConfig, learning_rate_at
from kinema.train.step import PRECISIONS

CHANGEABLE = ("max_minutes", "checkpoint_every", "keep_checkpoints", "tensorboard", "shard")
"""Fields of TrainConfig that a resumed run may change: none of them changes a number that is computed.

The number of processes and whether they `shard` change the order of sums alone."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long and how to train.

    `ema_decay` 0 switches averaging off. `precision` "auto" is bf16 autocast where the hardware has it. Held-out loss
    is measured every `evaluate_every` steps and at the end (0: only at the end). `max_minutes` of training in all,
    over resumes, end it early but cleanly; the learning rate follows the steps alone, so that resuming stays exact.

    `batch_size` is that of all processes together. With `shard` they split every tensor of the network between them
    (FSDP2) instead of keeping a copy each (DDP).
    """

    steps: int
    batch_size: int
    seed: int = 0
    optim: OptimConfig = field(default_factory=OptimConfig)
    ema_decay: float = 0.9999
    precision: str = "auto"
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    log_every: int = 20
    evaluate_every: int = 500
    max_minutes: float | None = None
    tensorboard: bool = False
    shard: bool = False

    def __post_init__(self) -> None:
        least = {"steps": 1, "batch_size": 1, "checkpoint_every": 1, "keep_checkpoints": 1, "log_every": 1}
        for name, low in {**least, "evaluate_every": 0}.items():
            if getattr(self, name) < low:
                raise KinemaError(f"{name}: {getattr(self, name)} is below {low}")
        if not 0 <= self.ema_decay < 1:
            raise KinemaError(f"ema_decay: {self.ema_decay} is not in [0, 1)")
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        if self.max_minutes is not None and self.max_minutes <= 0:
            raise KinemaError(f"max_minutes: {self.max_minutes} is not positive")
        learning_rate_at(0, self.optim, self.steps)


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """How a training ended: `status` is "finished", "interrupted" or "out of time".

    `step` steps are done; `loss` is the mean since the last line of the log or on it, `held_out_loss` that of the
    averaged weights. `weights` is None after an interruption: the same command goes on from `checkpoint`.
    """

    status: str
    step: int
    loss: float
    held_out_loss: float | None
    weights: Path | None
    checkpoint: Path
    precision: str
    elapsed_s: float


def refuse_changes(stored: Any, given: Any, path: Path) -> None:
    """Raise KinemaError naming every field in which a resumed run's configuration differs."""
    before, now = _leaves(stored, ""), _leaves(given, "")
    differing = [name for name in {**before, **now} if before.get(name) != now.get(name) and name not in CHANGEABLE]
    if differing:
        shown = [f"  {name}: {now.get(name)!r}, but the checkpoint has {before.get(name)!r}" for name in differing[:7]]
        more = [f"  ... and {len(differing) - 7} more"] if len(differing) > 7 else []
        head = f"{path} was trained with another configuration:"
        tail = "give that configuration to go on, or another run directory to start anew"
        raise KinemaError("\n".join([head, *shown, *more, tail]))


def _leaves(data: Any, prefix: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        return {prefix[:-1]: data}
    return {name: leaf for key, item in data.items() for name, leaf in _leaves(item, f"{prefix}{key}.").items()}
