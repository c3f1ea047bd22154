"""Several tests at once: the more one asks, the likelier one of the answers is chance."""

from __future__ import annotations

from collections.abc import Sequence

from kinema.core.errors import KinemaError


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for there being several of them, in their order.

    Calling significant what is at most alpha after adjustment keeps the chance of any false claim among all of them at
    alpha, however they depend on each other. The i-th smallest of m becomes max over j <= i of (m - j + 1) p_(j), and
    at most 1 (Holm, Scand. J. Statist. 6, 1979).
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if not 0 <= p_values[index] <= 1:
            raise KinemaError(f"not a p-value: {p_values[index]} (entry {index})")
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
