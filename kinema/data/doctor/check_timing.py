"""Checks of when rows were captured, on the monotonic clock of the recorder."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kinema.data.doctor.base import Check, Place
from kinema.data.doctor.survey import EpisodeRow, Survey
from kinema.data.lerobot.layout import CAPTURED, VALID

_GAP, _JITTER, _RATE, _SYNC, _INVALID = 1.6, 0.2, 0.03, 0.6, 0.05
"""Periods between rows, standard deviation in periods, share of the rate, periods between sensors, share of rows."""


def clocks(survey: Survey, episode: EpisodeRow) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield (feature, capture times [s] from the first, valid (T,) bool) of an episode with at least three rows."""
    for name in survey.features:
        values = survey.rows(episode, name) if name.startswith(CAPTURED) else None
        if values is None or len(values) < 3 or values.shape[1] != 1 or not np.issubdtype(values.dtype, np.integer):
            continue
        feature = name[len(CAPTURED) :]
        flags = survey.rows(episode, VALID + feature)
        valid = np.ones(len(values), bool) if flags is None or len(flags) != len(values) else flags[:, 0].astype(bool)
        yield feature, (values[:, 0] - values[0, 0]) / 1e9, valid


def _steps(survey: Survey, episode: EpisodeRow) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (feature, time between captured rows in periods of the rate, for one row); repeated rows are left out."""
    for feature, times_s, valid in clocks(survey, episode):
        kept = np.flatnonzero(valid)
        if len(kept) > 2:
            yield feature, np.diff(times_s[kept]) / np.diff(kept) * survey.fps


def order(survey: Survey) -> Iterator[Place]:
    """Capture times that stand still or go back."""
    for episode in survey.episodes:
        for feature, steps in _steps(survey, episode):
            if (back := steps <= 0).any():
                detail = f"{feature}: row {int(np.argmax(back)) + 1} is not later than the row before"
                yield Place(detail=f"{detail} ({int(back.sum())} such rows)", episode=episode.index)


def gaps(survey: Survey) -> Iterator[Place]:
    """Rows much further apart than the rate says: frames were dropped."""
    for episode in survey.episodes:
        for feature, steps in _steps(survey, episode):
            if (wide := steps > _GAP).any():
                lost = int(np.round(steps[wide] - 1).sum())
                longest = f"longest {steps.max() / survey.fps:.3f} s"
                detail = f"{feature}: gaps: {int(wide.sum())}, rows lost: about {max(lost, 1)}, {longest}"
                yield Place(detail=detail, episode=episode.index)


def jitter(survey: Survey) -> Iterator[Place]:
    """Rows that come irregularly, gaps aside."""
    for episode in survey.episodes:
        for feature, steps in _steps(survey, episode):
            plain = steps[(steps > 0) & (steps <= _GAP)]
            if len(plain) > 2 and plain.std() > _JITTER:
                detail = f"{feature}: the time between rows varies by {100 * plain.std():.0f} % of a period"
                yield Place(detail=detail, episode=episode.index)


def rate(survey: Survey) -> Iterator[Place]:
    """A real rate that is not the dataset's."""
    for episode in survey.episodes:
        for feature, steps in _steps(survey, episode):
            plain = steps[(steps > 0) & (steps <= _GAP)]
            # Of a few rows the jitter alone moves the mean.
            blur = 2 * plain.std() / np.sqrt(len(plain)) if len(plain) > 4 else np.inf
            if abs(plain.mean() - 1 if len(plain) else 0.0) > _RATE + blur:
                detail = f"{feature}: {survey.fps / plain.mean():.2f} rows/s, info.json says {survey.fps:g}"
                yield Place(detail=detail, episode=episode.index)


def sync(survey: Survey) -> Iterator[Place]:
    """Sensors of one row that were captured at different times."""
    keys = [name for name in survey.features if name.startswith(f"{CAPTURED}observation.")]
    for episode in survey.episodes:
        found = {name: survey.rows(episode, name) for name in keys}
        times = {name: values[:, 0] / 1e9 for name, values in found.items() if values is not None and len(values) > 2}
        if len(times) < 2 or len({len(values) for values in times.values()}) > 1:
            continue
        matrix = np.stack(list(times.values()))
        apart = np.abs(matrix - np.median(matrix, axis=0)) * survey.fps
        for name, values in zip(times, apart, strict=True):
            worst = float(np.quantile(values, 0.9))
            if worst > _SYNC:
                detail = f"{name[len(CAPTURED) :]}: {worst / survey.fps:.3f} s from the other sensors of its row"
                yield Place(detail=detail, episode=episode.index)


def invalid(survey: Survey) -> Iterator[Place]:
    """Episodes with many rows that repeat the one before because their own was lost."""
    for episode in survey.episodes:
        for feature, _, valid in clocks(survey, episode):
            lost = int((~valid).sum())
            if lost > max(1.0, _INVALID * len(valid)):
                yield Place(detail=f"{feature}: {lost} of {len(valid)} rows were lost", episode=episode.index)


_NEEDS = ("info", "capture", "rate")
_CABLE = "find what blocks the recorder (disk, USB, exposure); leave the episode out or delete it"
CHECKS = (
    Check(
        id="capture-order",
        severity="error",
        meaning="capture times stand still or go back: a clock was set, or rows are mixed up",
        fix="record with a monotonic clock; delete the episode with `kinema data edit delete`",
        run=order,
        needs=_NEEDS,
    ),
    Check(
        id="capture-gap",
        severity="warning",
        meaning="frames were dropped: two neighbouring rows are further apart than the rate says",
        fix=_CABLE,
        run=gaps,
        needs=_NEEDS,
    ),
    Check(
        id="capture-jitter",
        severity="warning",
        meaning="rows come irregularly: an action's duration is not what the policy learns",
        fix=_CABLE,
        run=jitter,
        needs=_NEEDS,
    ),
    Check(
        id="capture-rate",
        severity="warning",
        meaning="the rows were captured at another rate than fps says: replayed speeds are wrong",
        fix="set fps to the real rate when recording; a camera often delivers less than was asked",
        run=rate,
        needs=_NEEDS,
    ),
    Check(
        id="capture-sync",
        severity="warning",
        meaning="the sensors of one row were captured at different times",
        fix="trigger the cameras together, or drop the buffered frames before each read",
        run=sync,
        needs=_NEEDS,
    ),
    Check(
        id="capture-lost",
        severity="warning",
        meaning="many rows repeat the one before because their own was lost",
        fix=_CABLE,
        run=invalid,
        needs=_NEEDS,
    ),
)
