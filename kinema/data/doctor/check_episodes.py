"""Checks of episodes against each other: copies, stubs, pauses, failures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from kinema.data.doctor.base import Check, Place
from kinema.data.doctor.survey import EpisodeRow, Survey

_SHORT, _IDLE, _STILL = 0.2, 0.6, 0.05


def _digest(arrays: list[np.ndarray]) -> str:
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.shape}{array.dtype}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def twins(survey: Survey) -> Iterator[Place]:
    """Episodes whose vectors and actions are the same numbers as another's."""
    first: dict[str, int] = {}
    for episode in survey.episodes:
        columns = [survey.rows(episode, name) for name in survey.vectors]
        known = [values for values in columns if values is not None and len(values) == episode.length]
        if episode.length < 2 or not known or len(known) < len(columns):
            continue
        before = first.setdefault(_digest(known), episode.index)
        if before != episode.index:
            yield Place(detail=f"the same numbers as episode {before}", episode=episode.index, file=episode.data_file)


def twin_videos(survey: Survey) -> Iterator[Place]:
    """Episodes whose frames are another's of the same camera."""
    first: dict[tuple[str, str], int] = {}
    for episode in survey.episodes:
        for camera in survey.cameras:
            place = survey.frames(episode, camera)
            looks = None if place is None else survey.films[episode.spans[camera].file].looks
            if place is None or looks is None or len(looks.thumb) < place.stop or episode.length < 3:
                continue
            # Cameras that show one picture all the time are other checks' business.
            if looks.change[place][1:].max() < 1 or looks.contrast[place].max() < 1:
                continue
            before = first.setdefault((camera, _digest([looks.thumb[place]])), episode.index)
            if before != episode.index:
                detail = f"{camera}: the same frames as episode {before}"
                yield Place(detail=detail, episode=episode.index, file=episode.spans[camera].file)


def tasks_of(survey: Survey) -> Iterator[list[EpisodeRow]]:
    """Yield the episodes of each task."""
    groups: dict[tuple[str, ...], list[EpisodeRow]] = {}
    for episode in survey.episodes:
        groups.setdefault(episode.tasks, []).append(episode)
    yield from groups.values()


def short(survey: Survey) -> Iterator[Place]:
    """Episodes that end long before the others of their task, or hold fewer than three rows."""
    usual_all = float(np.median([episode.length for episode in survey.episodes] or [0]))
    for group in tasks_of(survey):
        usual = float(np.median([episode.length for episode in group])) if len(group) > 2 else usual_all
        for episode in group:
            if episode.length < 3 or episode.length < _SHORT * usual:
                yield Place(detail=f"{episode.length} rows, usually {usual:g}", episode=episode.index)


def steps(survey: Survey, episode: EpisodeRow) -> np.ndarray | None:
    """Return how far each component of the observed vectors, or of the action without these, moves a row (T-1, D)."""
    observed = [name for name in survey.vectors if name != "action"] or list(survey.vectors)
    values = [survey.numbers(episode, name) for name in observed]
    known = [array for array in values if array is not None and len(array) == episode.length]
    return np.abs(np.diff(np.concatenate(known, axis=1), axis=0)) if known and len(known) == len(values) else None


def idle(survey: Survey) -> Iterator[Place]:
    """Episodes in which nothing moves for most of the time."""
    moves = {episode.index: found for episode in survey.episodes if (found := steps(survey, episode)) is not None}
    if not moves or len({found.shape[1] for found in moves.values()}) > 1:
        return
    everything = np.concatenate(list(moves.values()))
    usual = np.array([np.median(column[column > 1e-7]) if (column > 1e-7).any() else np.inf for column in everything.T])
    for index, found in moves.items():
        still = (found / usual).max(axis=1) < _STILL
        if still.mean() > _IDLE:
            yield Place(detail=f"nothing moves in {100 * still.mean():.0f} % of the rows", episode=index)


def unsuccessful(survey: Survey) -> Iterator[Place]:
    """Episodes that are marked as failures."""
    for episode in survey.episodes:
        if episode.success is False:
            yield Place(detail="success is false", episode=episode.index)


_DROP = "leave it out of training (`--exclude FILE` writes the list) or `kinema data edit delete` it"
CHECKS = (
    Check(
        id="episode-twice",
        severity="error",
        meaning="an episode is a copy of another: it counts double, and may be in training and held-out data",
        fix="`kinema data edit delete` the copy",
        run=twins,
    ),
    Check(
        id="video-twice",
        severity="error",
        meaning="a camera shows another episode's frames: images and rows do not belong together",
        fix="take the file from a copy, or `kinema data edit delete` the episode",
        run=twin_videos,
        needs=("info", "frames"),
    ),
    Check(
        id="episode-short",
        severity="warning",
        meaning="an episode is much shorter than the others: it was aborted",
        fix=_DROP,
        run=short,
    ),
    Check(
        id="episode-idle",
        severity="warning",
        meaning="the robot stands still for most of the episode: a policy learns to wait",
        fix="cut the pause, or leave the episode out",
        run=idle,
    ),
    Check(
        id="episode-failed",
        severity="warning",
        meaning="an episode is marked as a failure: imitation would copy it",
        fix=_DROP,
        run=unsuccessful,
    ),
)
