"""Checks of the tasks and episodes tables."""

from __future__ import annotations

from collections.abc import Iterator

from kinema.data.doctor.base import Check, Place
from kinema.data.doctor.check_meta import reported
from kinema.data.doctor.survey import Survey
from kinema.data.lerobot import layout


def task_text(survey: Survey) -> Iterator[Place]:
    """Tasks without a text."""
    for index, text in survey.tasks.items():
        if not text.strip():
            yield Place(detail=f"task {index} has the text {text!r}", file=layout.TASKS)


def task_gap(survey: Survey) -> Iterator[Place]:
    """A tasks table whose indices are not 0, 1, 2 ..., or with a text or index twice."""
    missing = sorted(set(range(len(survey.tasks))) - set(survey.tasks))
    if missing:
        detail = f"the indices are not 0 to {len(survey.tasks) - 1}: {missing[:5]} missing"
        yield Place(detail=detail, file=layout.TASKS)
    yield from survey.troubles("task-repeated")


def episode_gap(survey: Survey) -> Iterator[Place]:
    """Episode indices that are not there although later or counted ones are."""
    present = {episode.index for episode in survey.episodes}
    counted = (survey.info or {}).get("total_episodes")
    # A count from a damaged file must not make a list of its length.
    last = min(max([*present, (counted if type(counted) is int else 0) - 1, -1]), 10**6)
    for index in [index for index in range(last + 1) if index not in present][:100]:
        yield Place(detail=f"episode {index} is not in any episodes table", episode=index, file="meta/episodes")


def episode_twice(survey: Survey) -> Iterator[Place]:
    """Episode indices that are there more than once."""
    files: dict[int, list[str]] = {}
    for episode in survey.episodes:
        files.setdefault(episode.index, []).append(episode.file)
    for index, names in files.items():
        if len(names) > 1:
            yield Place(detail=f"{len(names)} rows, in {', '.join(sorted(set(names)))}", episode=index, file=names[-1])


def episode_range(survey: Survey) -> Iterator[Place]:
    """dataset_from_index and dataset_to_index that do not follow from the lengths."""
    start = 0
    for episode in survey.episodes:
        if (episode.start, episode.stop) != (start, start + episode.length):
            detail = f"rows {episode.start} to {episode.stop}, expected {start} to {start + episode.length}"
            yield Place(detail=detail, episode=episode.index, file=episode.file)
        start += episode.length


_EDIT = "take the files from a copy, or `kinema data edit delete` what depends on them"
CHECKS = (
    Check(
        id="tasks-unreadable",
        severity="error",
        meaning="meta/tasks.parquet is missing, truncated or malformed: no row has an instruction",
        fix="restore the file from a copy, or rebuild it from the column `tasks` of the episodes",
        run=reported("tasks-unreadable"),
        needs=(),
    ),
    Check(
        id="task-text",
        severity="error",
        meaning="an instruction is empty: a policy would learn to act on nothing",
        fix="`kinema data edit` can set the task's text",
        run=task_text,
        needs=(),
    ),
    Check(
        id="task-table",
        severity="error",
        meaning="the task indices have gaps or repeats, so rows are given wrong instructions",
        fix="number the tasks 0, 1, 2 ... in meta/tasks.parquet",
        run=task_gap,
        needs=(),
    ),
    Check(
        id="episodes-unreadable",
        severity="error",
        meaning="an episodes table is missing, truncated or no parquet file",
        fix=_EDIT,
        run=reported("episodes-unreadable"),
        needs=(),
    ),
    Check(
        id="episode-columns",
        severity="error",
        meaning="an episode's row lacks a column or holds a value of another type",
        fix=_EDIT,
        run=reported("episode-columns"),
    ),
    Check(
        id="episode-missing",
        severity="error",
        meaning="an episode has no row: by position, readers give its neighbours' rows and video instead",
        fix=_EDIT,
        run=episode_gap,
    ),
    Check(
        id="episode-repeated",
        severity="error",
        meaning="an episode has several rows",
        fix="remove all but one of the rows from meta/episodes",
        run=episode_twice,
    ),
    Check(
        id="episode-range",
        severity="error",
        meaning="an episode's row numbers do not follow its predecessors' lengths: it would read others' rows",
        fix="`kinema data doctor DIR --fix` writes them anew, when the lengths fit the data files",
        run=episode_range,
    ),
)
