"""Ctrl-C while worker processes simulate: they never hear it, and the command stops between two pieces of work.

A terminal sends the signal to every process of the command. A worker that is still starting would end in a traceback,
and an exception between two answers of the workers would leave the next reader waiting for one that was taken already.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np

    from kinema.core.episode import Start
    from kinema.core.policy import Observation
    from kinema.evaluation.rollout import SimStep
    from kinema.sim.vector import VectorSimulator
    from kinema.train.signals import StopRequest

T = TypeVar("T")


@contextmanager
def deaf_children() -> Iterator[None]:
    """Keep SIGINT from the processes started inside; one that arrives meanwhile reaches this process at the end."""
    resource_tracker.ensure_running()  # starting it inside would let the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def spared(items: Iterator[T]) -> Iterator[T]:
    """Yield `items`, whose workers start while the first one is made, so that these never hear Ctrl-C."""
    with deaf_children():
        first = list(islice(items, 1))
    yield from first
    yield from items


class Workers:
    """A simulator that starts when it is first needed, and raises KeyboardInterrupt only between two of its calls."""

    def __init__(self, make: Callable[[], VectorSimulator], *, num_envs: int, stop: StopRequest) -> None:
        self.num_envs = num_envs
        self._make, self._stop = make, stop
        self._made: list[VectorSimulator] = []

    def reset(self, starts: Mapping[int, Start]) -> Observation:
        """Begin these episodes, as the simulator does."""
        self._heed()
        if not self._made:
            with deaf_children():
                self._made.append(self._make())
            self._heed()
        return self._made[0].reset(starts)

    def step(self, action: np.ndarray) -> SimStep:
        """Run these chunks, as the simulator does."""
        self._heed()
        return self._made[0].step(action)

    def restart(self) -> None:
        """End the worker processes at once, even crashed or hanging ones; the next episode starts others."""
        for simulator in self._made:
            simulator.abandon()
        self._made.clear()

    def close(self) -> None:
        """End the worker processes, if they were started."""
        for simulator in self._made:
            simulator.close()

    def _heed(self) -> None:
        if self._stop.requested:
            raise KeyboardInterrupt
