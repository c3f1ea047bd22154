"""Paired comparison of two policies on the same episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from kinema.core.errors import KinemaError


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How two policies did on the same n starts: a 2x2 table of paired successes."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def n(self) -> int:
        """The number of pairs."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def difference(self) -> float:
        """The success rate over all pairs of the first minus that of the second."""
        return (self.only_first - self.only_second) / self.n

    @property
    def p_value(self) -> float:
        """Two-sided exact McNemar p: under no difference a discordant pair favours either side with probability 1/2.

        Source: McNemar, Psychometrika 12, 1947; the exact form is the binomial test on the discordant pairs.
        """
        discordant = self.only_first + self.only_second
        return float(stats.binomtest(self.only_first, discordant, 0.5).pvalue) if discordant else 1.0


def paired(first: Sequence[bool], second: Sequence[bool]) -> Comparison:
    """Return the paired table of two success lists; entry i of both must be the same start."""
    if len(first) != len(second) or not first:
        raise KinemaError(f"cannot pair {len(first)} with {len(second)} episodes")
    pairs = list(zip(map(bool, first), map(bool, second), strict=True))
    return Comparison(
        both=pairs.count((True, True)),
        only_first=pairs.count((True, False)),
        only_second=pairs.count((False, True)),
        neither=pairs.count((False, False)),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for there being several of them (Holm, Scand. J. Statist. 6, 1979)."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
