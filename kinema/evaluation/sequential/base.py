"""The interface of sequential tests, and exactly how often and how soon each decides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import ClassVar

import numpy as np

from kinema.core.errors import KinemaError
from kinema.evaluation.comparison import Alternative, Comparison, check_alternative
from kinema.evaluation.intervals import check_level


class Decision(Enum):
    """What a test says after some pairs; what is undecided at `n_max` stays so."""

    FIRST = "first better"
    SECOND = "second better"
    UNDECIDED = "undecided"


@dataclass(frozen=True, kw_only=True)
class SequentialTest(ABC):
    """A test of two policies, asked after every pair; all of it is fixed before the first pair.

    When the policies are equally good it ever decides with chance at most `alpha`, however often it is asked up to
    `n_max` pairs. The first decision stands. "two-sided" may decide for either, at alpha/2 each; "greater" only for the
    first and "less" only for the second, at alpha.
    """

    n_max: int
    alpha: float = 0.05
    alternative: Alternative = "two-sided"

    discordant: ClassVar[bool]
    """Whether the test sees the pairs that differ alone; otherwise it sees all successes of either."""

    def __post_init__(self) -> None:
        check_level("alpha", self.alpha)
        check_alternative(self.alternative)
        if self.n_max < 1:
            raise KinemaError(f"n_max {self.n_max}: expected at least one pair")

    @property
    def level(self) -> float:
        """The chance of a false decision for one given side."""
        return self.alpha / 2 if self.alternative == "two-sided" else self.alpha

    @abstractmethod
    def favours_first(self, n: int) -> np.ndarray:
        """Return for which counts (of the first, of the second) after n pairs the first is better, bool (n+1, n+1)."""

    def region(self, n: int) -> np.ndarray:
        """Return the decision for all counts after n pairs, int8 (n+1, n+1): 1 first, -1 second, 0 undecided."""
        first = self.favours_first(n).astype(np.int8)
        return first * (self.alternative != "less") - first.T * (self.alternative != "greater")

    def decide(self, table: Comparison, *, lost: int = 0) -> Decision:
        """Return the decision after the pairs of `table`; raises KinemaError for more than `n_max` of them.

        With `lost` further pairs, of unknown outcome, it must be the same were all of them against it.
        """
        if table.n > self.n_max:
            raise KinemaError(f"{table.n} pairs, but the test was planned for at most {self.n_max}")
        shared = 0 if self.discordant else table.both
        sign = self.region(table.n)[shared + table.only_first, shared + table.only_second] if table.n else 0
        said = {1: Decision.FIRST, -1: Decision.SECOND, 0: Decision.UNDECIDED}[int(sign)]
        if said is Decision.UNDECIDED or not lost:
            return said
        against = (0, lost) if said is Decision.FIRST else (lost, 0)
        worst = replace(table, only_first=table.only_first + against[0], only_second=table.only_second + against[1])
        return said if worst.n <= self.n_max and self.decide(worst) is said else Decision.UNDECIDED


def first_decision(test: SequentialTest, pairs: Iterable[tuple[bool, bool]]) -> tuple[Decision, int]:
    """Return the first decision over `pairs` (success of the first, of the second), in order, and after how many."""
    table = Comparison()
    for first, second in pairs:
        table = table.plus(bool(first), bool(second))
        decision = test.decide(table)
        if decision is not Decision.UNDECIDED:
            return decision, table.n
    return Decision.UNDECIDED, table.n


@dataclass(frozen=True, kw_only=True)
class Characteristics:
    """How often a test decides for either side, and how many pairs it takes on average, undecided ones included."""

    first: float
    second: float
    pairs: float


def independent(p_first: float, p_second: float) -> tuple[float, float, float, float]:
    """Return the chances of (both, only first, only second, neither) for policies whose outcomes are independent."""
    return p_first * p_second, p_first * (1 - p_second), (1 - p_first) * p_second, (1 - p_first) * (1 - p_second)


def characteristics(test: SequentialTest, chances: tuple[float, float, float, float]) -> Characteristics:
    """Return how `test` behaves when each pair has these `chances` of (both, only first, only second, neither).

    Exact: the chances of all counts without a decision so far are carried from pair to pair.
    """
    both, only_first, only_second, neither = chances
    if min(chances) < 0 or abs(sum(chances) - 1) > 1e-9:
        raise KinemaError(f"chances {chances}: expected four that sum to 1")
    mass, decided, pairs = np.ones((1, 1)), {1: 0.0, -1: 0.0}, 0.0
    for n in range(1, test.n_max + 1):
        pairs += mass.sum()
        ahead = np.zeros((n + 1, n + 1))
        ahead[:-1, :-1] = neither * mass
        ahead[1:, :-1] += only_first * mass
        ahead[:-1, 1:] += only_second * mass
        if test.discordant:
            ahead[:-1, :-1] += both * mass
        else:
            ahead[1:, 1:] += both * mass
        region = test.region(n)
        for sign in decided:
            decided[sign] += float(ahead[region == sign].sum())
        mass = np.where(region == 0, ahead, 0.0)
    return Characteristics(first=decided[1], second=decided[-1], pairs=float(pairs))
