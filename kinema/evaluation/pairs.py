"""Pairs of attempts in simulation: many starts at once, in the order of the plan, with those that crash found alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from kinema.core.errors import KinemaError
from kinema.core.policy import Policy
from kinema.evaluation.compare import Pair
from kinema.evaluation.rollout import Simulator, Trial, rollout


class Restartable(Simulator, Protocol):
    """A simulator whose environments can be thrown away."""

    def restart(self) -> None:
        """End all environments at once, even crashed or hanging ones; the next episode starts others."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """A policy, the environments it is tried in, many `together`, and one `alone` to find which start it was."""

    policy: Policy
    together: Restartable
    alone: Restartable


def rolled_out(first: Side, second: Side, trials: Sequence[Trial]) -> Iterator[Pair]:
    """Yield one pair a trial, in order, trying as many at once as `first` has environments together.

    A policy's batch in which an environment raises, dies or hangs is tried again start by start, so that only the
    starts that crash alone too are lost. Which starts are tried together changes no outcome, but for the rounding of
    sums over batches of another size.
    """
    size = first.together.num_envs
    for begin in range(0, len(trials), size):
        batch = trials[begin : begin + size]
        ours = _attempts(first, batch)
        theirs = iter(_attempts(second, [t for t, ended in zip(batch, ours, strict=True) if isinstance(ended, bool)]))
        for trial, one in zip(batch, ours, strict=True):
            other = next(theirs) if isinstance(one, bool) else None
            crash = next((ended for ended in (one, other) if isinstance(ended, str)), "")
            yield Pair(start=trial.start, first=_outcome(one), second=_outcome(other), crash=crash)


def _outcome(ended: bool | str | None) -> bool | None:
    return ended if isinstance(ended, bool) else None


def _attempts(side: Side, trials: Sequence[Trial]) -> list[bool | str]:
    """Return for each trial whether it succeeded, or what crashed it."""
    if not trials:
        return []
    try:
        return [result.success for result in rollout(side.policy, side.together, trials)]
    except KinemaError:
        raise
    except Exception:  # noqa: BLE001  what a simulator raises cannot be listed here; it is raised again alone
        side.together.restart()
    return [_attempt_alone(side, trial) for trial in trials]


def _attempt_alone(side: Side, trial: Trial) -> bool | str:
    try:
        return rollout(side.policy, side.alone, [trial])[0].success
    except KinemaError:
        raise
    except Exception as error:  # noqa: BLE001  as above: it is kept with the pair
        side.alone.restart()
        return f"{type(error).__name__}: {error}"
