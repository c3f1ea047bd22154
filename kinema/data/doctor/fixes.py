"""Repairs that lose nothing: what other parts of the dataset say for certain is written anew, atomically.

Never deleted: what belongs to no episode is moved to `.quarantine/`. Never guessed: a repair whose ground is itself in
doubt is left to a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from kinema.core.errors import DataError
from kinema.data.doctor.base import Report
from kinema.data.doctor.check_meta import leftover_files
from kinema.data.doctor.check_stats import stored_of
from kinema.data.doctor.check_tables import expected_column
from kinema.data.doctor.survey import EpisodeRow, Survey
from kinema.data.lerobot import layout
from kinema.data.lerobot.episode_stats import NAMES, FeatureStats, from_nested, merge, of_images, of_rows, to_nested
from kinema.data.lerobot.files import STAGING, lock, move, quarantine, read_table, reported, write_table
from kinema.data.video import decode

_COLUMNS = {
    "timestamp": "timestamp",
    "frame-index": "frame_index",
    "index": "index",
    "episode-index": "episode_index",
}
_DOUBTS = {"row-count", "data-unreadable", "episodes-unreadable", "episode-columns", "episode-missing"}
_DOUBTS |= {"episode-repeated", "column-missing", "info-unreadable", "info-version", "path-template"}
"""With one of these, lengths, tables and files do not agree, so that nothing can be derived from them."""


def fix(survey: Survey, report: Report) -> list[str]:
    """Repair what is certain, holding the dataset's lock; returns one line for each thing done, or left undone."""
    found = {finding.check for finding in report.findings}
    done: list[str] = []
    with reported(survey.root), lock(survey.root):
        if "leftovers" in found:
            done += _quarantine(survey)
        doubts = sorted(found & _DOUBTS - ({"episode-missing"} if _whole(survey) else set()))
        if doubts:
            return [*done, f"nothing else was repaired, because of {', '.join(doubts)}"]
        wanted = [column for check, column in _COLUMNS.items() if check in found and "column-type" not in found]
        done += _renumber(survey, [name for name in wanted if name != "timestamp" or survey.fps])
        if "episode-range" in found:
            done += _ranges(survey)
        if found & {"totals", "episode-missing"}:
            done += _totals(survey)
        if found & {"stats", "stats-unreadable", "episode-stats"} and "column-type" not in found:
            done += _statistics(survey, found)
    return done


def _whole(survey: Survey) -> bool:
    """Return whether the episodes are 0, 1, 2 ... and all data is there, so that only the count in info.json is off."""
    indices = [episode.index for episode in survey.episodes]
    return bool(indices) and indices == list(range(len(indices)))


def _quarantine(survey: Survey) -> list[str]:
    names = leftover_files(survey)
    folder = quarantine(survey.root, [survey.root / name for name in names])
    return [f"moved {len(names)} files that no episode owns to {folder}"] if folder else []


def _put(survey: Survey, name: str, table: pa.Table) -> None:
    """Replace the table `name` in one step."""
    staged = survey.root / STAGING / "doctor.parquet"
    staged.parent.mkdir(exist_ok=True)
    write_table(table, staged)
    move(staged, survey.root / name)
    if not any(staged.parent.iterdir()):
        staged.parent.rmdir()


def _set(table: pa.Table, column: str, values: list[Any]) -> pa.Table:
    place = table.schema.get_field_index(column)
    return table.set_column(place, table.schema.field(place), pa.array(values, table.schema.field(place).type))


def _begins(survey: Survey) -> dict[int, int]:
    starts = np.cumsum([0, *(episode.length for episode in survey.episodes)])
    return {episode.index: int(start) for episode, start in zip(survey.episodes, starts, strict=False)}


def _renumber(survey: Survey, columns: list[str]) -> list[str]:
    begin = _begins(survey)
    for name, mates in survey.mates.items() if columns else ():
        table = read_table(survey.root / name)
        for column in columns:
            parts = [expected_column(survey, episode, column, begin[episode.index]) for episode in mates]
            table = _set(table, column, np.concatenate(parts).tolist())
        _put(survey, name, table)
    return [f"wrote {', '.join(columns)} anew in {len(survey.mates)} data files"] if columns else []


def _edit_episodes(survey: Survey, columns: Mapping[str, Mapping[int, Any]]) -> None:
    """Set columns of the episodes tables; `columns` is column -> episode index -> value."""
    for name in sorted({episode.file for episode in survey.episodes}):
        table = read_table(survey.root / name)
        indices = table["episode_index"].to_pylist()
        if not any(index in values for values in columns.values() for index in indices):
            continue
        for column, values in columns.items():
            if column in table.column_names:
                old = table[column].to_pylist()
                table = _set(table, column, [values.get(i, was) for i, was in zip(indices, old, strict=True)])
        _put(survey, name, table)


def _ranges(survey: Survey) -> list[str]:
    begin = _begins(survey)
    ends = {episode.index: begin[episode.index] + episode.length for episode in survey.episodes}
    columns = {"dataset_from_index": begin, "dataset_to_index": ends}
    _edit_episodes(survey, columns)
    return [f"wrote the row numbers of {len(survey.episodes)} episodes anew"]


def _totals(survey: Survey) -> list[str]:
    content = layout.read_json(survey.root / layout.INFO)
    count = len(survey.episodes)
    content |= {"total_episodes": count, "total_frames": sum(episode.length for episode in survey.episodes)}
    content |= {"total_tasks": survey.task_rows, "splits": {"train": f"0:{count}"}}
    layout.write_json(survey.root / layout.INFO, content)
    return [f"wrote the counts of the tables to {layout.INFO}: {count} episodes, {content['total_frames']} frames"]


def _statistics(survey: Survey, found: set[str]) -> list[str]:
    """Recompute the statistics of vectors, and of cameras that are wrong; merge all into stats.json."""
    if "not-finite" in found:
        return ["the statistics stay as they are: there is NaN or infinity in the data"]
    columns: dict[str, dict[int, Any]] = {}
    total: dict[str, FeatureStats | None] = {}
    begin = _begins(survey)
    for episode in survey.episodes:
        for feature in survey.features:
            new = _of_feature(survey, episode, feature, begin[episode.index])
            if new is None or (feature in total and total[feature] is None):
                total[feature] = None
                continue
            total[feature] = merge(total.get(feature), new)
            for name, value in to_nested({feature: new})[feature].items():
                columns.setdefault(f"stats/{feature}/{name}", {})[episode.index] = value
    _edit_episodes(survey, columns)
    merged = {feature: stats for feature, stats in total.items() if stats is not None}
    layout.write_json(survey.root / layout.STATS, to_nested(merged))
    return [f"computed the statistics of {len(merged)} features of {len(survey.episodes)} episodes anew"]


def _of_feature(survey: Survey, episode: EpisodeRow, feature: str, start: int) -> FeatureStats | None:
    """Return an episode's statistics of a feature; those of cameras as stored, unless the videos are decoded."""
    if feature in _COLUMNS.values() and survey.fps:
        # Not as they were read: they may just have been repaired.
        return of_rows(expected_column(survey, episode, feature, start).reshape(-1, 1))
    if feature not in survey.cameras:
        values = survey.rows(episode, feature)
        usable = values is not None and len(values) and np.issubdtype(values.dtype, np.number)
        return of_rows(values) if usable and values is not None else None
    place = survey.frames(episode, feature)
    if survey.deep and place is not None:
        try:
            return of_images(decode(survey.root / episode.spans[feature].file)[place])
        except DataError:
            return None
    stored = stored_of(episode, feature)
    return from_nested({feature: stored})[feature] if all(name in stored for name in NAMES) else None
