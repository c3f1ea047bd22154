"""An anytime-valid test: the wealth of a gambler who bets on the better policy, pair after pair."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from scipy.special import betainc, betaln

from kinema.evaluation.sequential.base import SequentialTest


@dataclass(frozen=True, kw_only=True)
class EProcess(SequentialTest):
    """The test that holds for any number of pairs: `n_max` is patience here, and may be raised at any time.

    It decides when the e-value reaches 1 / level. Needs only that, given the past, the worse policy is not the likelier
    one to succeed alone; pairs on the same starts and rates that drift are fine. The price is a later decision.
    """

    discordant: ClassVar[bool] = True

    @cached_property
    def favoured(self) -> np.ndarray:
        """For which numbers of pairs that (first, second) alone solved the first is better, bool (n_max+1, n_max+1)."""
        return log_e_value(*np.indices((self.n_max + 1, self.n_max + 1))) >= -math.log(self.level)

    def favours_first(self, n: int) -> np.ndarray:
        """Return the part of `favoured` that n pairs can reach; how many agreed does not matter."""
        return self.favoured[: n + 1, : n + 1]


def log_e_value(wins: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Return the logarithm of the e-value for the side that alone solved `wins` pairs and lost `losses`, same shape.

    A gambler who stakes the share u of the wealth on each differing pair has (1 + u)^wins (1 - u)^losses; the mean over
    u uniform on (0, 1) is 2^(w + l + 1) B(w + 1, l + 1) P(Beta(w + 1, l + 1) > 1/2). When the side is not better the
    mean wealth never grows, so it ever reaches 1/a with chance at most a (Ville 1939; Robbins 1970; Waudby-Smith and
    Ramdas, JRSS B 86, 2024).
    """
    with np.errstate(divide="ignore"):
        favoured = np.log(betainc(losses + 1, wins + 1, 0.5))
    return (wins + losses + 1) * math.log(2) + betaln(wins + 1, losses + 1) + favoured
