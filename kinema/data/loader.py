"""Batches as a pure function of (seed, step), prepared ahead of time by threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from kinema.core.errors import KinemaError
from kinema.core.manifest import cores
from kinema.core.rng import generator
from kinema.data.lerobot.reader import Dataset
from kinema.data.shuffle import Epochs
from kinema.data.windows import Samples

Augment = Callable[[Mapping[str, Any], np.random.Generator], Mapping[str, Any]]
Draws = Callable[[int], np.ndarray]
"""Returns the window indices (batch_size,) of a step."""


class Loader:
    """Endless shuffled batches of `samples`; the batch of step k depends on `seed` and k alone.

    So training resumes exactly at any step, whatever is cached. `draws` says which windows make up a batch; by default
    each epoch is a new permutation of all, and batches, all full, run across epochs.

    Up to `prefetch` batches are prepared ahead, by as many threads at most and no more than there are cores: reading
    and decoding leave Python's lock to others. At most prefetch + 1 batches are in memory, besides those given out.
    """

    def __init__(
        self,
        samples: Samples,
        *,
        batch_size: int,
        seed: int,
        augment: Augment | None = None,
        prefetch: int = 4,
        draws: Draws | None = None,
    ) -> None:
        if batch_size < 1 or prefetch < 0:
            raise KinemaError(f"batch_size {batch_size}, prefetch {prefetch}: expected at least 1 and 0")
        self.samples, self.batch_size, self.seed, self.prefetch = samples, batch_size, seed, prefetch
        self.indices: Draws = draws or Epochs(len(samples), batch_size=batch_size, seed=seed)
        self._augment = augment

    def batch(self, step: int) -> dict[str, Any]:
        """Return the batch of step `step`, augmented."""
        return self._made(step, self.indices(step))

    def batches(self, start_step: int = 0) -> Iterator[dict[str, Any]]:
        """Yield the batches of steps start_step, start_step + 1, ... without end.

        The threads end when the iterator is closed. What they raise is raised here.
        """
        step = start_step
        if self.prefetch == 0:
            while True:
                yield self.batch(step)
                step += 1
        ahead: deque[Future[dict[str, Any]]] = deque()
        pool = ThreadPoolExecutor(min(self.prefetch, cores()), "loader")
        try:
            while True:
                while len(ahead) < self.prefetch:
                    ahead.append(pool.submit(self._made, step, self.indices(step)))
                    step += 1
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _made(self, step: int, indices: np.ndarray) -> dict[str, Any]:
        sample: Mapping[str, Any] = self.samples.batch(indices)
        if self._augment is not None:
            sample = self._augment(sample, generator("augment", self.seed, step))
        return dict(sample)


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
