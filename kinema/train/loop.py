"""The supervised loop: batches to weights, the same on every run, going on where it was stopped.

Everything random in step k derives from (seed, k), so a run that was killed and started again has the losses and the
weights of one that never was, bit for bit on one machine's CPU with the same number of threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import torch

from kinema.core.config import to_data
from kinema.core.errors import KinemaError, UnavailableError
from kinema.nets.ema import Ema, named_weights
from kinema.train import checkpoint
from kinema.train.config import TrainConfig, TrainResult, refuse_changes
from kinema.train.held_out import held_out_loss
from kinema.train.logging import JsonlLog, Progress
from kinema.train.memory import keep_freed_memory
from kinema.train.optim import build_optimizer, learning_rate_at, named_moments
from kinema.train.signals import StopRequest, stop_on_signal
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

WEIGHTS = "weights.safetensors"
LOG = "log.jsonl"


def fit(
    network: Network,
    batches: Callable[[int], Iterator[Batch]],
    config: TrainConfig,
    run_dir: Path,
    *,
    held_out: Callable[[], Iterator[Batch]] | None = None,
    device: str | torch.device = "cpu",
    progress: TextIO | None = None,
) -> TrainResult:
    """Return how the training of `network` ended; it goes on from the last checkpoint in `run_dir`, if there is one.

    `batches(k)` yields the batch of step k (from 0), of step k + 1 and so on, each a function of its step alone.
    `progress` is the stream (usually stderr) that is told how it goes. SIGINT and SIGTERM finish the step and save; a
    second one stops at once. A loss or gradient that is not finite, a configuration that differs from that of the
    checkpoints and batches that end early are KinemaErrors; a full disk is an UnavailableError.
    """
    device = torch.device(device)
    if device.type == "cpu":
        keep_freed_memory()
    with global_rng_kept(device), stop_on_signal() as stop:
        training = _Training(network, config, Path(run_dir), device, held_out)
        start = training.resume()
        log = JsonlLog(training.run / LOG, resume_step=start, tensorboard=config.tensorboard)
        shown = Progress(progress, total=config.steps, start=start)
        try:
            training.announce(log, shown)
            return training.run_steps(batches, log, shown, stop)
        finally:
            shown.close()
            log.close()


class _Training:
    """The state of a run: what is saved, restored and stepped."""

    def __init__(
        self,
        network: Network,
        config: TrainConfig,
        run: Path,
        device: torch.device,
        held_out: Callable[[], Iterator[Batch]] | None,
    ) -> None:
        self.network, self.config, self.run, self.device, self.held_out = network, config, run, device, held_out
        self.module = as_module(network).to(device)
        self.optimizer = build_optimizer(self.module, config.optim)
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        self.ema = Ema(self.module, config.ema_decay) if config.ema_decay else None
        self.rng = torch.Generator(device=device)
        self.precision = choose_precision(config.precision, device)
        self.began_s = time.monotonic()
        self.step = 0
        self.saved: Path | None = None
        self.window = {"loss": 0.0, "grad_norm": 0.0, "steps": 0}
        self.last: dict[str, float | None] = {"loss": None, "held_out_loss": None}
        self.timed_s, self.samples = self.began_s, 0

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.began_s

    def tensors(self) -> dict[str, dict[str, torch.Tensor]]:
        found = {"model": named_weights(self.module), "optimizer": named_moments(self.module, self.optimizer)}
        return {**found, "ema": self.ema.state} if self.ema else found

    def resume(self) -> int:
        """Return the number of steps done, after taking up the newest checkpoint."""
        try:
            self.run.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UnavailableError(f"cannot write {self.run}: {error.strerror}") from error
        self.saved = checkpoint.latest(self.run)
        if self.saved is None:
            return 0
        state = checkpoint.read_state(self.saved)
        refuse_changes(state.get("config"), to_data(self.config), self.saved)
        checkpoint.restore(self.saved, self.tensors())
        self.step, self.precision = state["step"], state["precision"]
        self.window, self.last = state["window"], state["last"]
        self.began_s = time.monotonic() - state["elapsed_s"]
        return self.step

    def save(self) -> None:
        state = {
            "config": to_data(self.config),
            "precision": self.precision,
            "window": self.window,
            "last": self.last,
            "elapsed_s": self.elapsed_s,
        }
        keep = self.config.keep_checkpoints
        self.saved = checkpoint.save(self.run, self.step, self.tensors(), state, keep=keep)

    def announce(self, log: JsonlLog, shown: Progress) -> None:
        count = sum(p.numel() for p in self.parameters)
        log.write(
            "start",
            self.step,
            precision=self.precision,
            device=str(self.device),
            threads=torch.get_num_threads(),
            trainable_parameters=count,
            torch=torch.__version__,
            config=to_data(self.config),
        )
        how = f"{count:,} trainable parameters in {self.precision} on {self.device}"
        shown.note(f"resuming at step {self.step}: {how}" if self.step else f"training {how}")

    def run_steps(
        self, batches: Callable[[int], Iterator[Batch]], log: JsonlLog, shown: Progress, stop: StopRequest
    ) -> TrainResult:
        config, status = self.config, "finished"
        self.module.train()
        source = iter(batches(self.step)) if self.step < config.steps else iter(())
        self.timed_s = time.monotonic()
        fresh = self.step < config.steps or self.last["loss"] is None
        expired = self._out_of_time()
        while self.step < config.steps:
            if expired:
                status = "out of time"
                break
            batch = None if stop.requested else self._next(source, stop)
            if batch is None:
                status = "interrupted"
                break
            self.train_step(batch)
            expired = self._out_of_time()
            self._after_step(log, shown, last=expired or self.step == config.steps)
        if status != "interrupted" and fresh:
            self._report(log, shown)
            self.measure_held_out(log, shown)
        if fresh and (self.saved is None or checkpoint.read_state(self.saved)["step"] != self.step):
            self.save()
        return self._end(status, log)

    def _out_of_time(self) -> bool:
        budget = self.config.max_minutes
        return budget is not None and self.step > 0 and self.elapsed_s >= 60.0 * budget

    def _next(self, source: Iterator[Batch], stop: StopRequest) -> Batch | None:
        try:
            return next(source)
        except StopIteration:
            raise KinemaError(f"the batches end at step {self.step} of {self.config.steps}") from None
        except RuntimeError:
            # A signal to the whole process group also ends the workers that load data.
            if stop.requested:
                return None
            raise

    def train_step(self, given: Batch) -> None:
        """Do one step; a loss or gradient that is not finite leaves weights and checkpoints as they were."""
        config, number = self.config, self.step
        batch = to_tensors(given, self.device)
        rng = seeded(self.rng, "train", config.seed, number)
        total, count = summed_loss(self.network, batch, rng, self.precision)
        if len(batch["mask"]) != config.batch_size or not count:
            raise KinemaError(
                f"batch of step {number}: {len(batch['mask'])} samples with {count} steps kept by the mask; "
                f"expected {config.batch_size} samples and at least one step"
            )
        loss = total / count
        value = float(loss.detach())
        self._require_finite("loss", value)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, config.optim.clip_norm or math.inf))
        self._require_finite("gradient norm", norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(number, config.optim, config.steps)
        self.optimizer.step()
        self.step += 1
        if self.ema:
            self.ema.update(self.module, self.step)
        self.window["loss"] += value
        self.window["grad_norm"] += norm
        self.window["steps"] += 1
        self.samples += config.batch_size

    def _require_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            kept = f"the last checkpoint is {self.saved}" if self.saved else "there is no checkpoint yet"
            raise KinemaError(f"the {what} of step {self.step} is {value}; {kept}")

    def _after_step(self, log: JsonlLog, shown: Progress, *, last: bool) -> None:
        config = self.config
        if self.step % config.log_every == 0:
            self._report(log, shown)
        if last:
            return
        if config.evaluate_every and self.step % config.evaluate_every == 0:
            self.measure_held_out(log, shown)
        if self.step % config.checkpoint_every == 0:
            self.save()

    def _report(self, log: JsonlLog, shown: Progress) -> None:
        """Write the means since the last line, and start counting anew."""
        steps = self.window["steps"]
        if not steps:
            return
        now = time.monotonic()
        rate = self.samples / max(now - self.timed_s, 1e-9)
        values = {
            "loss": self.window["loss"] / steps,
            "grad_norm": self.window["grad_norm"] / steps,
            "learning_rate": float(self.optimizer.param_groups[0]["lr"]),
            "samples_per_s": rate,
            "elapsed_s": self.elapsed_s,
        }
        log.write("train", self.step, **values)
        self.last["loss"] = values["loss"]
        self.window = {"loss": 0.0, "grad_norm": 0.0, "steps": 0}
        self.timed_s, self.samples = now, 0
        left_s = (self.config.steps - self.step) * self.config.batch_size / max(rate, 1e-9)
        if self.config.max_minutes is not None:
            left_s = min(left_s, max(0.0, 60.0 * self.config.max_minutes - self.elapsed_s))
        shown.update(self.step, values, left_s)

    def measure_held_out(self, log: JsonlLog, shown: Progress) -> None:
        """Log the held-out loss of the averaged weights; the state of the training stays as it is."""
        if self.held_out is None:
            return
        began_s = time.monotonic()
        value, count = held_out_loss(
            self.network, self.held_out(), self.ema, seed=self.config.seed, rng=self.rng, precision=self.precision
        )
        self._require_finite("held-out loss", value)
        log.write("held_out", self.step, loss=value, batches=count)
        shown.note(f"step {self.step}: held-out loss {value:.4g}")
        self.last["held_out_loss"] = value
        self.timed_s += time.monotonic() - began_s

    def _end(self, status: str, log: JsonlLog) -> TrainResult:
        weights = self.run / WEIGHTS
        if status != "interrupted":
            checkpoint.save_weights(self.ema.state if self.ema else named_weights(self.module), weights)
        log.write("end", self.step, status=status, elapsed_s=self.elapsed_s)
        loss = self.window["loss"] / self.window["steps"] if self.window["steps"] else self.last["loss"]
        return TrainResult(
            status=status,
            step=self.step,
            loss=math.nan if loss is None else loss,
            held_out_loss=self.last["held_out_loss"],
            weights=None if status == "interrupted" else weights,
            checkpoint=self.saved or self.run,
            precision=self.precision,
            elapsed_s=self.elapsed_s,
        )
