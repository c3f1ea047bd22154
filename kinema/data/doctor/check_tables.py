"""Checks of the data files: their columns, and the columns that number and time the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from kinema.data.doctor.base import Check, Place
from kinema.data.doctor.check_meta import reported
from kinema.data.doctor.survey import EpisodeRow, Survey
from kinema.data.lerobot.layout import DEFAULT_FEATURES

_TIMESTAMP_S = 1e-4
"""As much as readers of the format tolerate between a row's time and its frame's."""


def row_count(survey: Survey) -> Iterator[Place]:
    """Episodes whose data rows are not as many as their length."""
    for episode in survey.episodes:
        table = survey.tables.get(episode.data_file)
        if table is None:
            continue
        mates = survey.mates[episode.data_file]
        numbers = table.columns.get("episode_index")
        if sum(other.length for other in mates) == table.rows:
            continue
        found = table.rows if len(mates) == 1 or numbers is None else int((numbers[:, 0] == episode.index).sum())
        if found != episode.length or numbers is None:
            detail = f"{found} rows, its length is {episode.length}"
            yield Place(detail=detail, episode=episode.index, file=episode.data_file)
    yield from _strangers(survey)


def _strangers(survey: Survey) -> Iterator[Place]:
    """Rows of a data file that are of an episode which does not lie there."""
    for name, table in survey.tables.items():
        mates = {episode.index: episode.length for episode in survey.mates.get(name, [])}
        numbers = table.columns.get("episode_index")
        if numbers is None or table.rows <= sum(mates.values()):
            continue
        strange = sorted(set(numbers[:, 0].tolist()) - set(mates))
        if strange:
            yield Place(detail=f"holds rows of episodes {strange[:5]}, which do not lie in this file", file=name)


def missing_column(survey: Survey) -> Iterator[Place]:
    """Features of info.json that a data file lacks."""
    wanted = [name for name, feature in survey.features.items() if feature.dtype != "video"]
    for name, table in survey.tables.items():
        for column in sorted({*wanted, *DEFAULT_FEATURES} - set(table.columns)):
            yield Place(detail=f"no column {column!r}", file=name)


def extra_column(survey: Survey) -> Iterator[Place]:
    """Columns of a data file that info.json does not know."""
    for name, table in survey.tables.items():
        for column in sorted(set(table.columns) - set(survey.features) - set(DEFAULT_FEATURES)):
            yield Place(detail=f"column {column!r} is no feature of info.json", file=name)


def column_type(survey: Survey) -> Iterator[Place]:
    """Columns of another dtype or width than info.json says, or with nulls."""
    for name, table in survey.tables.items():
        for column, feature in survey.features.items():
            if column not in table.columns or feature.dtype in ("video", "image", "string", "language"):
                continue
            values, kind = table.columns[column], table.types[column]
            if kind != feature.dtype:
                yield Place(detail=f"{column} is {kind}, info.json says {feature.dtype}", file=name)
            elif values is None:
                yield Place(detail=f"{column} holds nulls or rows of different widths", file=name)
            elif values.shape[1] != feature.width:
                detail = f"{column} is {values.shape[1]} wide, info.json says {feature.width}"
                yield Place(detail=detail, file=name)


def expected_column(survey: Survey, episode: EpisodeRow, name: str, start: int) -> np.ndarray:
    """Return what the automatic column `name` of an episode must hold, (T,); its rows begin at `start`."""
    steps = np.arange(episode.length)
    if name == "timestamp":
        return (steps / survey.fps).astype(np.float32)
    return {"index": start + steps, "frame_index": steps, "episode_index": np.full(episode.length, episode.index)}[name]


def automatic(name: str) -> Callable[[Survey], Iterator[Place]]:
    """Return the check that an automatic column holds what follows from lengths and rate."""

    def run(survey: Survey) -> Iterator[Place]:
        start = 0
        for episode in survey.episodes:
            values = survey.rows(episode, name)
            begins, start = start, start + episode.length
            if values is None or len(values) != episode.length or values.shape[1] != 1:
                continue
            if name == "timestamp" and not survey.fps:
                continue
            expected = expected_column(survey, episode, name, begins)
            off = np.flatnonzero(~(np.abs(values[:, 0] - expected) <= (_TIMESTAMP_S if name == "timestamp" else 0)))
            if len(off):
                row = int(off[0])
                detail = f"{len(off)} of {episode.length} rows; row {row} is {values[row, 0]}, expected {expected[row]}"
                yield Place(detail=detail, episode=episode.index, file=episode.data_file)

    return run


def task_index(survey: Survey) -> Iterator[Place]:
    """Rows of a task that is not in the table, or that is not the episode's."""
    if not survey.tasks:
        return
    for episode in survey.episodes:
        values = survey.rows(episode, "task_index")
        for index in [] if values is None else np.unique(values):
            text = survey.tasks.get(int(index)) if np.isfinite(index) else None
            if text is None:
                detail = f"task_index {index} is not in the table of {len(survey.tasks)} tasks"
            elif episode.tasks and text not in episode.tasks:
                detail = f"its rows say {text!r:.60}, its episode {episode.tasks[0]!r:.60}"
            else:
                continue
            yield Place(detail=detail, episode=episode.index, file=episode.data_file)


_RENUMBER = "`kinema data doctor DIR --fix` writes the column anew, when the lengths fit the data files"
CHECKS = (
    Check(
        id="data-unreadable",
        severity="error",
        meaning="a data file is missing, truncated or no parquet file: its episodes are lost",
        fix="take the file from a copy, or delete its episodes with `kinema data edit delete`",
        run=reported("data-unreadable"),
    ),
    Check(
        id="row-count",
        severity="error",
        meaning="an episode has more or fewer rows than its length: later episodes shift",
        fix="delete the episode with `kinema data edit delete`, or take the file from a copy",
        run=row_count,
    ),
    Check(
        id="column-missing",
        severity="error",
        meaning="a feature of info.json is in no column of a data file",
        fix="take the file from a copy; if the feature was dropped everywhere, remove it from info.json",
        run=missing_column,
    ),
    Check(
        id="column-extra",
        severity="warning",
        meaning="a data file has a column that info.json does not know, so readers disagree about it",
        fix="add the feature to info.json, or write the file without the column",
        run=extra_column,
    ),
    Check(
        id="column-type",
        severity="error",
        meaning="a column is not of the dtype and width that info.json says",
        fix="write the column anew in the declared type, or take the file from a copy",
        run=column_type,
    ),
    Check(
        id="timestamp",
        severity="error",
        meaning="timestamp is not frame_index / fps: readers look up the wrong video frame",
        fix=_RENUMBER,
        run=automatic("timestamp"),
    ),
    Check(
        id="frame-index",
        severity="error",
        meaning="frame_index does not count the rows of the episode from 0",
        fix=_RENUMBER,
        run=automatic("frame_index"),
    ),
    Check(
        id="index",
        severity="error",
        meaning="index does not count the rows of the dataset from 0",
        fix=_RENUMBER,
        run=automatic("index"),
    ),
    Check(
        id="episode-index",
        severity="error",
        meaning="episode_index is not the episode's number: windows would cross episodes",
        fix=_RENUMBER,
        run=automatic("episode_index"),
    ),
    Check(
        id="task-index",
        severity="error",
        meaning="rows carry a task that is not in the table, or another than their episode",
        fix="correct task_index in the data file, or delete the episode with `kinema data edit delete`",
        run=task_index,
    ),
)
