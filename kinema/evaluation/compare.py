"""Two policies compared on the same starts, pair after pair, until the test of their plan decides.

Each pair is kept before the next begins. An interrupted comparison goes on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from pathlib import Path

from kinema.core.config import from_data, to_data
from kinema.core.episode import Start
from kinema.core.errors import KinemaError
from kinema.core.files import write_text
from kinema.evaluation.comparison import Comparison
from kinema.evaluation.intervals import Rate, percent
from kinema.evaluation.preregistration import PLAN_FILE, Plan, read_document, register
from kinema.evaluation.sequential.base import Decision

PAIRS_FILE = "pairs.json"

Attempt = Callable[[Start], bool]
"""Runs one policy from a start and returns whether it succeeded; what it raises is a crash, a KinemaError excepted."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What came of one start; None is the outcome of an attempt that crashed or was not made, and `crash` says why."""

    start: Start
    first: bool | None
    second: bool | None
    crash: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the pairs so far say, by the plan; `crashed` counts the pairs lost to crashes of each policy.

    Starts that crash are no random choice, so a decision must outlast that all their pairs speak against it.
    """

    plan: Plan
    decision: Decision
    table: Comparison
    crashed: tuple[int, int]

    @property
    def finished(self) -> bool:
        """Whether the test has decided, or has no pairs or starts left."""
        decided = self.decision is not Decision.UNDECIDED
        return decided or self.table.n == self.plan.test.n_max or self.tried == len(self.plan.starts)

    @property
    def exhausted(self) -> bool:
        """Whether crashes have left fewer pairs than an undecided test asks for."""
        short = self.tried == len(self.plan.starts) and self.table.n < self.plan.test.n_max
        return short and self.decision is Decision.UNDECIDED

    @property
    def tried(self) -> int:
        """How many starts have been tried, crashes included."""
        return self.table.n + sum(self.crashed)

    @property
    def rates(self) -> tuple[Rate, Rate]:
        """The success rates of both over the counted pairs; after an early stop they exaggerate the difference."""
        table = self.table
        return Rate(table.both + table.only_first, table.n), Rate(table.both + table.only_second, table.n)

    def __str__(self) -> str:
        first, second, test = self.plan.first.name, self.plan.second.name, self.plan.test
        what = {
            Decision.FIRST: f"{first} is better than {second}",
            Decision.SECOND: f"{second} is better than {first}",
            Decision.UNDECIDED: f"{first} and {second}: "
            + ("not distinguishable" if self.finished else "no decision yet"),
        }
        by = f"{type(test).__name__}, {test.alternative}, alpha {test.alpha:g}"
        lines = [what[self.decision], f"after {self.table.n} of at most {test.n_max} pairs ({by})"]
        if self.finished and self.decision is Decision.UNDECIDED:
            lines.append(self._why_open())
        if self.table.n:
            lines += [f"{name}: {rate}" for name, rate in zip((first, second), self.rates, strict=True)]
            low, high = (100 * end for end in self.table.interval())
            lines.append(f"difference: {100 * self.table.difference:+.0f} points [{low:+.0f}, {high:+.0f}]")
        crashes = [f"{count} of {name}" for name, count in zip((first, second), self.crashed, strict=True) if count]
        return "\n".join(lines + ([f"crashed, not counted: {', '.join(crashes)}"] if crashes else []))

    def _why_open(self) -> str:
        crashed, test = sum(self.crashed), self.plan.test
        if crashed and test.decide(self.table) is not Decision.UNDECIDED:
            return f"the {crashed} pairs that crashed, were they all for the other, would undo what the rest say"
        if self.exhausted:
            return f"the {len(self.plan.starts)} starts ran out: {crashed} of them crashed"
        return _blind_below(self.plan.detectable)


def _blind_below(smallest: float | None) -> str:
    if smallest is None:
        return "so few pairs find no difference with a chance of 80 %"
    return f"underpowered below {percent(smallest)} points: such differences are missed with a chance of over 20 %"


def verdict(plan: Plan, pairs: Sequence[Pair]) -> Verdict:
    """Return what `pairs`, those of the plan's first starts, say; pairs after the first decision are an error."""
    nothing = Verdict(plan=plan, decision=Decision.UNDECIDED, table=Comparison(), crashed=(0, 0))
    return reduce(extended, pairs, nothing)


def extended(known: Verdict, pair: Pair) -> Verdict:
    """Return the verdict after one more pair; raises KinemaError unless it is the next of a comparison still open."""
    if known.finished:
        raise KinemaError(f"{pair.start} was tried after the comparison had ended")
    if pair.start != known.plan.starts[known.tried]:
        raise KinemaError(f"pair {known.tried} is of {pair.start}, which the plan does not have there")
    if pair.first is None:
        return replace(known, crashed=(known.crashed[0] + 1, known.crashed[1]))
    if pair.second is None:
        return replace(known, crashed=(known.crashed[0], known.crashed[1] + 1))
    table = known.table.plus(pair.first, pair.second)
    return replace(known, table=table, decision=known.plan.test.decide(table, lost=sum(known.crashed)))


def compare(
    plan: Plan,
    first: Attempt,
    second: Attempt,
    *,
    directory: Path,
    progress: Callable[[Verdict], None] | None = None,
) -> Verdict:
    """Return the verdict of `follow`, trying one start after the other.

    A pair in which an attempt crashes is kept as such: it is not counted and not tried again, and which policy crashed
    is part of the verdict.
    """
    tried = partial(map, lambda start: _attempt(start, first, second))
    return follow(plan, tried, directory=directory, progress=progress)


def follow(
    plan: Plan,
    pairs_of: Callable[[Sequence[Start]], Iterable[Pair]],
    *,
    directory: Path,
    progress: Callable[[Verdict], None] | None = None,
) -> Verdict:
    """Return the verdict, after as many pairs of the plan as it takes; `plan.json` is there before the first of them.

    `pairs_of` gives the pairs of starts in their order. It may try several at once, but pairs after the deciding one
    are dropped. A `directory` that holds pairs of this same plan is continued; one of another plan (suite, policies,
    starts, test) is an error that names the difference.
    """
    if (directory / PAIRS_FILE).exists() and not (directory / PLAN_FILE).exists():
        raise KinemaError(f"{directory} holds pairs without the plan they were made by")
    register(plan, directory)
    pairs = load_pairs(plan, directory)
    known = verdict(plan, pairs)
    left = iter(() if known.finished else pairs_of(plan.starts[known.tried :]))
    while not known.finished:
        pairs.append(next(left))
        known = extended(known, pairs[-1])
        document = {"plan": plan.hash, "pairs": [to_data(pair) for pair in pairs]}
        write_text(directory / PAIRS_FILE, json.dumps(document, indent=1) + "\n")
        if progress is not None:
            progress(known)
    return known


def _attempt(start: Start, first: Attempt, second: Attempt) -> Pair:
    outcomes: list[bool | None] = []
    for attempt in (first, second):
        try:
            outcomes.append(bool(attempt(start)))
        except KinemaError:
            raise
        except Exception as error:  # noqa: BLE001  what a simulator or robot raises cannot be listed here
            before = outcomes[0] if outcomes else None
            return Pair(start=start, first=before, second=None, crash=f"{type(error).__name__}: {error}")
    return Pair(start=start, first=outcomes[0], second=outcomes[1])


def load_pairs(plan: Plan, directory: Path) -> list[Pair]:
    """Return the pairs tried so far, none if there is no file yet; pairs of another plan are an error."""
    path = directory / PAIRS_FILE
    if not path.exists():
        return []
    document = read_document(path)
    pairs = from_data(document.get("pairs", []))
    if document.get("plan") != plan.hash or not all(isinstance(pair, Pair) for pair in pairs):
        raise KinemaError(f"{path} holds no pairs of the plan beside it")
    return list(pairs)
