"""Two policies in their environments, for a comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from kinema.cli.interrupts import Workers
from kinema.cli.suites import wordings
from kinema.core.episode import Start
from kinema.core.spec import RobotSpec, check_compatible
from kinema.evaluation.compare import Pair
from kinema.evaluation.pairs import Side, rolled_out
from kinema.evaluation.trials import trials
from kinema.sim.vector import VectorSimulator
from kinema.train.signals import StopRequest, stop_on_signal


def same_robot(first: RobotSpec, second: RobotSpec, runs: tuple[Path, Path]) -> None:
    """Raise SpecMismatch unless both are of one robot, moved in the same way; what they observe may differ."""
    alike = replace(first, observation=second.observation)
    check_compatible(alike, second, have_name=f"the robot of {runs[0]}", want_name=f"that of {runs[1]}")


@contextmanager
def contest(
    suites: Sequence[Any], policies: Sequence[Any], *, envs: int, hang_s: float
) -> Iterator[Callable[[Sequence[Start]], Iterable[Pair]]]:
    """Yield what tries starts with both policies, `envs` at once; equal suites share their environments."""
    horizon = max(policy.obs_horizon for policy in policies)
    with stop_on_signal() as stop, ExitStack() as ending:
        arenas: list[tuple[Workers, Workers]] = []
        for suite in suites if suites[0] != suites[1] else suites[:1]:
            make = partial(VectorSimulator, suite, obs_horizon=horizon, timeout_s=hang_s)
            arenas.append((_workers(make, envs, stop, ending), _workers(make, 1, stop, ending)))
        first, second = (
            Side(policy=policy, together=together, alone=alone)
            for policy, (together, alone) in zip(policies, (arenas[0], arenas[-1]), strict=True)
        )
        texts = wordings(suites[0])
        yield lambda starts: rolled_out(first, second, trials(starts, texts, "seen"))


def _workers(make: Callable[..., VectorSimulator], envs: int, stop: StopRequest, ending: ExitStack) -> Workers:
    workers = Workers(partial(make, num_envs=envs), num_envs=envs, stop=stop)
    ending.callback(workers.restart)
    return workers
