"""Which observed step each token belongs to, for trunks that read step after step."""

from __future__ import annotations

from collections.abc import Sequence

from kinema.core.errors import KinemaError
from kinema.nets.base import Group


def token_steps(groups: Sequence[Group]) -> list[int]:
    """Return the step of each token of the `groups`, -1 for those of no step."""
    return [
        token // (group.tokens // group.steps) if group.steps else -1
        for group in groups
        for token in range(group.tokens)
    ]


def observed_steps(trunk: str, groups: Sequence[Group]) -> int:
    """Return how many steps the `groups` have; raises KinemaError when none has any, or they differ."""
    found = {group.name: group.steps for group in groups if group.steps}
    if len(set(found.values())) != 1:
        given = ", ".join(f"{name} {steps}" for name, steps in found.items()) or "none"
        raise KinemaError(f"{trunk}: expected encoders whose tokens are of as many observed steps each, got {given}")
    return next(iter(found.values()))


def step_rows(trunk: str, groups: Sequence[Group]) -> list[list[int]]:
    """Return for each observed step its tokens and those of no step, in the order of the `groups`."""
    of = token_steps(groups)
    return [
        [token for token, own in enumerate(of) if own in (-1, step)] for step in range(observed_steps(trunk, groups))
    ]


def columns(groups: Sequence[Group], rows: Sequence[Sequence[int]], width: int) -> list[list[int]]:
    """Return for each of `rows` where what its tokens are filled with stands, in all tokens of `width` side by side."""
    filled = [group.filled or width for group in groups for _ in range(group.tokens)]
    return [[token * width + number for token in row for number in range(filled[token])] for row in rows]
