"""Which words go with which start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kinema.core.episode import Start
from kinema.evaluation.rollout import Trial

Texts = Mapping[str, tuple[str, ...]]
"""Instructions by task."""


def trials(starts: Iterable[Start], texts: Texts, variant: str) -> tuple[Trial, ...]:
    """Return one trial a start; the episodes of a task take its instructions in turn."""
    return tuple(
        Trial(
            start=start,
            instruction=texts[start.task][start.episode % len(texts[start.task])],
            variant=variant,
        )
        for start in starts
    )
