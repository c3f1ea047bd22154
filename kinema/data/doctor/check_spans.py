"""Checks of where episodes lie in their videos, and when the frames are shown."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from kinema.data.doctor.base import Check, Place
from kinema.data.doctor.check_video import AGAIN, films, only
from kinema.data.doctor.survey import Survey


def frame_count(survey: Survey) -> Iterator[Place]:
    """Video files with more or fewer frames than their episodes have rows."""
    for camera, file, film, spans in films(survey):
        rows = sum(episode.length for episode, _ in spans)
        if not film.error and len(film.times_s) != rows:
            detail = f"{camera}: {len(film.times_s)} frames for {rows} rows"
            yield Place(detail=detail, episode=only(spans), file=file)


def span(survey: Survey) -> Iterator[Place]:
    """Episodes whose from_timestamp and to_timestamp are not those of their frames."""
    for camera, file, film, spans in films(survey):
        for episode, place in spans if survey.fps else ():
            length_s, frame_s = episode.length / survey.fps, 1 / survey.fps
            begin = place.from_s * survey.fps
            problem = ""
            if abs(place.to_s - place.from_s - length_s) > 0.5 * frame_s:
                problem = f"lasts {place.to_s - place.from_s:.3f} s, its rows {length_s:.3f} s"
            elif abs(begin - round(begin)) > 0.1:
                problem = f"begins at {place.from_s:.4f} s, between two frames"
            elif not film.error and round(begin) + episode.length > len(film.times_s):
                problem = f"ends at {place.to_s:.3f} s, the video at {len(film.times_s) / survey.fps:.3f} s"
            if problem:
                yield Place(detail=f"{camera}: {problem}", episode=episode.index, file=file)


def overlap(survey: Survey) -> Iterator[Place]:
    """Episodes that share frames of a video file."""
    for camera, file, _, spans in films(survey):
        for (before, old), (after, new) in pairwise(spans):
            if survey.fps and new.from_s < old.from_s + (before.length - 0.5) / survey.fps:
                detail = f"{camera}: begins at {new.from_s:.3f} s, inside episode {before.index}"
                yield Place(detail=detail, episode=after.index, file=file)


def times(survey: Survey) -> Iterator[Place]:
    """Presentation times that are not 0, 1, 2 ... frames: repeated, skipped or shifted."""
    for camera, file, film, spans in films(survey):
        if film.error or not survey.fps or len(film.times_s) < 2:
            continue
        places = film.times_s * (film.fps or survey.fps)
        off = np.flatnonzero(np.abs(places - np.arange(len(places))) > 0.25)
        if len(off):
            detail = f"{camera}: frame {int(off[0])} is shown at {film.times_s[off[0]]:.4f} s ({len(off)} such frames)"
            yield Place(detail=detail, episode=only(spans), file=file)


CHECKS = (
    Check(
        id="video-frames",
        severity="error",
        meaning="a camera has more or fewer frames than rows: from the lost frame on, every image is of another moment",
        fix=AGAIN,
        run=frame_count,
    ),
    Check(
        id="video-span",
        severity="error",
        meaning="an episode's from_timestamp or to_timestamp is not that of its frames",
        fix="correct the timestamps in meta/episodes, or delete the episode with `kinema data edit delete`",
        run=span,
    ),
    Check(
        id="video-overlap",
        severity="error",
        meaning="two episodes claim the same frames: one of them shows the other",
        fix="correct from_timestamp in meta/episodes, or delete the episode with `kinema data edit delete`",
        run=overlap,
    ),
    Check(
        id="video-times",
        severity="error",
        meaning="frames are repeated, skipped or shifted in presentation time: rows and images come apart",
        fix=AGAIN,
        run=times,
    ),
)
