"""Batches as a pure function of (seed, step), prepared ahead of time by a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from kinema.core.errors import KinemaError
from kinema.core.rng import generator
from kinema.data.lerobot.reader import Dataset
from kinema.data.windows import Windows

Augment = Callable[[Mapping[str, Any], np.random.Generator], Mapping[str, Any]]


class Loader:
    """Endless shuffled batches of windows, each epoch a new permutation, all batches full (they run across epochs).

    The batch of step k depends on `seed` and k alone, so training resumes exactly at any step.
    """

    def __init__(
        self, windows: Windows, *, batch_size: int, seed: int, augment: Augment | None = None, prefetch: int = 4
    ) -> None:
        if batch_size < 1 or prefetch < 0:
            raise KinemaError(f"batch_size {batch_size}, prefetch {prefetch}: expected at least 1 and 0")
        self.windows, self.batch_size, self.seed, self.prefetch = windows, batch_size, seed, prefetch
        self._augment = augment
        self._permutation: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    def indices(self, step: int) -> np.ndarray:
        """Return the window indices (batch_size,) of step `step`."""
        if step < 0:
            raise KinemaError(f"step {step}: expected 0 or more")
        size = len(self.windows)
        epochs, places = np.divmod(np.arange(step * self.batch_size, (step + 1) * self.batch_size), size)
        parts = [self._epoch(int(epoch))[places[epochs == epoch]] for epoch in np.unique(epochs)]
        return np.concatenate(parts)

    def batch(self, step: int) -> dict[str, Any]:
        """Return the batch of step `step`, augmented."""
        sample: Mapping[str, Any] = self.windows.batch(self.indices(step))
        if self._augment is not None:
            sample = self._augment(sample, generator("augment", self.seed, step))
        return dict(sample)

    def batches(self, start_step: int = 0) -> Iterator[dict[str, Any]]:
        """Yield the batches of steps start_step, start_step + 1, ... without end.

        A thread prepares `prefetch` batches ahead; it ends when the iterator is closed. What it raises is raised here.
        """
        if self.prefetch == 0:
            step = start_step
            while True:
                yield self.batch(step)
                step += 1
        ready: queue.Queue[tuple[dict[str, Any] | None, BaseException | None]] = queue.Queue(self.prefetch)
        stop = threading.Event()
        thread = threading.Thread(target=self._produce, args=(start_step, ready, stop), name="loader", daemon=True)
        thread.start()
        try:
            while True:
                batch, error = ready.get()
                if batch is None:
                    raise error or RuntimeError("the loader's thread ended")
                yield batch
        finally:
            stop.set()
            thread.join()

    def _produce(self, step: int, ready: queue.Queue[Any], stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                item: tuple[dict[str, Any] | None, BaseException | None] = (self.batch(step), None)
            except Exception as error:  # noqa: BLE001 - handed to the consumer, whatever it is
                item = (None, error)
            while not stop.is_set():
                try:
                    ready.put(item, timeout=0.05)
                    break
                except queue.Full:
                    continue
            if item[0] is None:
                return
            step += 1

    def _epoch(self, epoch: int) -> np.ndarray:
        known, permutation = self._permutation
        if known != epoch:
            permutation = generator("loader", self.seed, epoch).permutation(len(self.windows))
            self._permutation = (epoch, permutation)
        return permutation


def split_episodes(dataset: Dataset, held_out_fraction: float, seed: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return (training, held-out) episode indices, sorted; each task is split alone.

    A task is what the origin calls so, else the instruction. One with five or more episodes gives at least one and
    never all; held_out_fraction 0 holds out nothing.
    """
    if not 0 <= held_out_fraction < 1:
        raise KinemaError(f"held_out_fraction {held_out_fraction}: expected 0 <= fraction < 1")
    groups: dict[str, list[int]] = {}
    for episode in dataset.episodes:
        groups.setdefault(str(episode.origin.get("task", episode.instruction)), []).append(episode.index)
    held_out: list[int] = []
    for task, members in groups.items():
        count = round(held_out_fraction * len(members))
        if held_out_fraction > 0 and len(members) >= 5:
            count = max(count, 1)
        order = generator("split", seed, task).permutation(len(members))
        held_out += [members[place] for place in order[: min(count, len(members) - 1)]]
    chosen = set(held_out)
    return tuple(e.index for e in dataset.episodes if e.index not in chosen), tuple(sorted(chosen))
