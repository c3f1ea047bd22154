"""The state of a training: what is stepped, saved and restored."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinema.core.config import to_data
from kinema.core.errors import KinemaError, UnavailableError
from kinema.nets.ema import Ema, named_weights
from kinema.train import checkpoint
from kinema.train.config import TrainConfig, refuse_changes
from kinema.train.distributed import Processes
from kinema.train.optim import build_optimizer, freeze, held, learning_rate_at, named_moments, set_learning_rate
from kinema.train.spread import fill, number, whole
from kinema.train.step import Batch, Network, as_module, choose_precision, summed_loss, to_tensors


class State:
    """A network in training, its optimiser and average, and what has been counted since the log's last line."""

    def __init__(
        self, network: Network, config: TrainConfig, run: Path, device: torch.device, group: Processes
    ) -> None:
        self.network, self.config, self.run, self.device, self.group = network, config, run, device, group
        self.module = as_module(network).to(device)
        freeze(self.module, config.optim)
        self.spread = group.spread(network, shard=config.shard)
        self.optimizer = build_optimizer(self.module, config.optim)
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        self.waiting = held(self.module, config.optim, config.steps)
        self.ema = Ema(self.module, config.ema_decay) if config.ema_decay else None
        self.rng = torch.Generator(device=device)
        self.precision = choose_precision(config.precision, device)
        self.began_s = time.monotonic()
        self.step = 0
        self.saved: Path | None = None
        self.saved_step = 0
        self.window = {"loss": 0.0, "grad_norm": 0.0, "steps": 0}
        self.last: dict[str, float | None] = {"loss": None, "held_out_loss": None}

    @property
    def elapsed_s(self) -> float:
        """How long the training has taken, over resumes [s]."""
        return time.monotonic() - self.began_s

    @property
    def averaged(self) -> dict[str, Tensor]:
        """The weights that the training results in, for the first process; every process must ask."""
        return whole(self.ema.state if self.ema else named_weights(self.module), keep=self.group.first)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return the live tensors of a checkpoint's files."""
        found = {"model": named_weights(self.module), "optimizer": named_moments(self.module, self.optimizer)}
        return {**found, "ema": self.ema.state} if self.ema else found

    def resume(self) -> int:
        """Return the number of steps done, after taking up the newest checkpoint."""
        try:
            self.run.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UnavailableError(f"cannot write {self.run}: {error.strerror}") from error
        self.saved = checkpoint.latest(self.run)
        state: dict[str, Any] = checkpoint.read_state(self.saved) if self.saved else {"step": 0}
        self.saved_step = self.group.agreed("the step to go on from", state["step"])
        if self.saved is None:
            return 0
        refuse_changes(state.get("config"), to_data(self.config), self.saved)
        live = self.tensors()
        full = {name: whole(tensors) for name, tensors in live.items()}
        checkpoint.restore(self.saved, full)
        for name, tensors in live.items():
            fill(tensors, full[name])
        self.step, self.precision = state["step"], state["precision"]
        self.window, self.last = state["window"], state["last"]
        self.began_s = time.monotonic() - state["elapsed_s"]
        return self.step

    def save(self) -> None:
        """Write a checkpoint of this step."""
        state = {
            "config": to_data(self.config),
            "precision": self.precision,
            "window": self.window,
            "last": self.last,
            "elapsed_s": self.elapsed_s,
        }
        keep, self.saved_step = self.config.keep_checkpoints, self.step
        tensors = {name: whole(live, keep=self.group.first) for name, live in self.tensors().items()}
        if self.group.first:
            self.saved = checkpoint.save(self.run, self.step, tensors, state, keep=keep)
        self.group.sums(0)  # nobody goes on before it is there

    def train_step(self, given: Batch) -> None:
        """Do one step; a loss or gradient that is not finite leaves weights and checkpoints as they were."""
        config, group = self.config, self.group
        batch = to_tensors(group.part(given), self.device)
        rng = group.noise(self.rng, len(batch["mask"]), "train", config.seed, self.step)
        total, kept = summed_loss(self.spread, batch, rng, self.precision)
        [count] = map(int, group.sums(kept))
        if len(given["mask"]) != config.batch_size or not count:
            raise KinemaError(
                f"batch of step {self.step}: {len(given['mask'])} samples with {count} steps kept by the mask; "
                f"expected {config.batch_size} samples and at least one step"
            )
        loss = total * group.world / count
        value = group.sums(float(loss.detach()))[0] / group.world
        self.require_finite("loss", value)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for first, parameter in self.waiting:
            if self.step < first:
                parameter.grad = None
        norm = number(torch.nn.utils.clip_grad_norm_(self.parameters, config.optim.clip_norm or math.inf))
        self.require_finite("gradient norm", norm)
        set_learning_rate(self.optimizer, learning_rate_at(self.step, config.optim, config.steps))
        self.optimizer.step()
        self.step += 1
        if self.ema:
            self.ema.update(self.module, self.step)
        self.window["loss"] += value
        self.window["grad_norm"] += norm
        self.window["steps"] += 1

    def require_finite(self, what: str, value: float) -> None:
        """Raise KinemaError, naming the last checkpoint, unless `value` is finite."""
        if not math.isfinite(value):
            kept = f"the last checkpoint is {self.saved}" if self.saved else "there is no checkpoint yet"
            raise KinemaError(f"the {what} of step {self.step} is {value}; {kept}")

    def agreed(self, wanted: bool) -> bool:
        """Return whether any process wants it, so that all do the same."""
        return self.group.sums(wanted)[0] > 0
