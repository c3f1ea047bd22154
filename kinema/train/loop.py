"""The supervised loop: batches to weights, the same on every run, going on where it was stopped.

Everything random in step k derives from (seed, k), so a run that was killed and started again has the losses and the
weights of one that never was, bit for bit on one machine's CPU with the same number of threads.

Processes that `torchrun` started together train one network: each has a part of every batch, the first writes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import torch

from kinema.core.config import to_data
from kinema.core.errors import KinemaError
from kinema.train import checkpoint
from kinema.train.config import TrainConfig, TrainResult
from kinema.train.distributed import ALONE, Processes
from kinema.train.held_out import held_out_loss
from kinema.train.logging import JsonlLog, Progress
from kinema.train.memory import keep_freed_memory
from kinema.train.optim import learning_rate_at
from kinema.train.signals import StopRequest, stop_on_signal
from kinema.train.state import State
from kinema.train.step import Batch, Network, global_rng_kept

WEIGHTS = "weights.safetensors"
LOG = "log.jsonl"
HeldOut = Callable[[], Iterator[Batch]]


def fit(
    network: Network,
    batches: Callable[[int], Iterator[Batch]],
    config: TrainConfig,
    run_dir: Path,
    *,
    held_out: HeldOut | None = None,
    device: str | torch.device = "cpu",
    progress: TextIO | None = None,
    group: Processes = ALONE,
) -> TrainResult:
    """Return how the training of `network` ended; it goes on from the last checkpoint in `run_dir`, if there is one.

    `batches(k)` yields the batch of step k (from 0), of step k + 1 and so on, each a function of its step alone.
    `progress` is the stream (usually stderr) that is told how it goes. SIGINT and SIGTERM finish the step and save; a
    second one stops at once. Of `group`, the processes that train together, each calls this. A loss or gradient that
    is not finite, a configuration that differs from that of the checkpoints and batches that end early are
    KinemaErrors; a full disk is an UnavailableError.
    """
    device = torch.device(device)
    if device.type == "cpu":
        keep_freed_memory()
    with global_rng_kept(device), stop_on_signal() as stop:
        state = State(network, config, Path(run_dir), device, group)
        start = state.resume()
        log = JsonlLog(state.run / LOG if group.first else None, resume_step=start, tensorboard=config.tensorboard)
        shown = Progress(progress if group.first else None, total=config.steps, start=start)
        try:
            return _Run(state, log, shown, held_out).steps(batches, stop)
        finally:
            shown.close()
            log.close()


class _Run:
    """A training with its log: when something is told, measured and saved."""

    def __init__(self, state: State, log: JsonlLog, shown: Progress, held_out: HeldOut | None) -> None:
        self.state, self.config, self.log, self.shown, self.held_out = state, state.config, log, shown, held_out
        self.timed_s, self.timed_step = time.monotonic(), state.step

    def announce(self) -> None:
        state, world, count = self.state, self.state.group.world, sum(p.numel() for p in self.state.parameters)
        self.log.write(
            "start",
            state.step,
            precision=state.precision,
            device=str(state.device),
            threads=torch.get_num_threads(),
            processes=world,
            trainable_parameters=count,
            torch=torch.__version__,
            config=to_data(self.config),
        )
        spread = f" in {world} processes" if world > 1 else ""
        how = f"{count:,} trainable parameters in {state.precision} on {state.device}{spread}"
        self.shown.note(f"resuming at step {state.step}: {how}" if state.step else f"training {how}")

    def steps(self, batches: Callable[[int], Iterator[Batch]], stop: StopRequest) -> TrainResult:
        self.announce()
        config, state, status = self.config, self.state, "finished"
        state.module.train()
        source = iter(batches(state.step)) if state.step < config.steps else iter(())
        self.timed_s = time.monotonic()
        fresh = state.step < config.steps or state.last["loss"] is None
        expired = state.agreed(self._out_of_time())
        while state.step < config.steps:
            if expired:
                status = "out of time"
                break
            batch = None if state.agreed(stop.requested) else self._next(source, stop)
            if batch is None:
                status = "interrupted"
                break
            state.train_step(batch)
            expired = state.agreed(self._out_of_time())
            self._after_step(last=expired or state.step == config.steps)
        if status != "interrupted" and fresh:
            self._report()
            self.measure_held_out()
        if fresh and (state.saved_step != state.step or not state.step):
            state.save()
        return self._end(status)

    def _out_of_time(self) -> bool:
        budget = self.config.max_minutes
        return budget is not None and self.state.step > 0 and self.state.elapsed_s >= 60.0 * budget

    def _next(self, source: Iterator[Batch], stop: StopRequest) -> Batch | None:
        try:
            return next(source)
        except StopIteration:
            raise KinemaError(f"the batches end at step {self.state.step} of {self.config.steps}") from None
        except RuntimeError:
            # A signal to the whole process group also ends the workers that load data.
            if stop.requested:
                return None
            raise

    def _after_step(self, *, last: bool) -> None:
        config, step = self.config, self.state.step
        if step % config.log_every == 0:
            self._report()
        if last:
            return
        if config.evaluate_every and step % config.evaluate_every == 0:
            self.measure_held_out()
        if step % config.checkpoint_every == 0:
            self.state.save()

    def _report(self) -> None:
        """Write the means since the last line, and start counting anew."""
        state, config, steps = self.state, self.config, self.state.window["steps"]
        if not steps:
            return
        now = time.monotonic()
        rate = (state.step - self.timed_step) * config.batch_size / max(now - self.timed_s, 1e-9)
        values = {
            "loss": state.window["loss"] / steps,
            "grad_norm": state.window["grad_norm"] / steps,
            "learning_rate": learning_rate_at(state.step - 1, config.optim, config.steps),
            "samples_per_s": rate,
            "elapsed_s": state.elapsed_s,
        }
        self.log.write("train", state.step, **values)
        state.last["loss"] = values["loss"]
        state.window = {"loss": 0.0, "grad_norm": 0.0, "steps": 0}
        self.timed_s, self.timed_step = now, state.step
        left_s = (config.steps - state.step) * config.batch_size / max(rate, 1e-9)
        if config.max_minutes is not None:
            left_s = min(left_s, max(0.0, 60.0 * config.max_minutes - state.elapsed_s))
        self.shown.update(state.step, values, left_s)

    def measure_held_out(self) -> None:
        """Log the held-out loss of the averaged weights; the state of the training stays as it is."""
        if self.held_out is None:
            return
        state, began_s = self.state, time.monotonic()
        value, count = held_out_loss(
            state.network, self.held_out(), state.ema, seed=self.config.seed, rng=state.rng, precision=state.precision
        )
        state.require_finite("held-out loss", value)
        self.log.write("held_out", state.step, loss=value, batches=count)
        self.shown.note(f"step {state.step}: held-out loss {value:.4g}")
        state.last["held_out_loss"] = value
        self.timed_s += time.monotonic() - began_s

    def _end(self, status: str) -> TrainResult:
        state, weights = self.state, self.state.run / WEIGHTS
        averaged = state.averaged
        if status != "interrupted" and state.group.first:
            checkpoint.save_weights(averaged, weights)
        self.log.write("end", state.step, status=status, elapsed_s=state.elapsed_s)
        loss = state.window["loss"] / state.window["steps"] if state.window["steps"] else state.last["loss"]
        return TrainResult(
            status=status,
            step=state.step,
            loss=math.nan if loss is None else loss,
            held_out_loss=state.last["held_out_loss"],
            weights=None if status == "interrupted" else weights,
            checkpoint=state.saved or state.run,
            precision=state.precision,
            elapsed_s=state.elapsed_s,
        )
