"""Checks of the video files against info.json and the episodes: strict, a row is a frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kinema.data.doctor.base import Check, Place
from kinema.data.doctor.films import Film
from kinema.data.doctor.survey import EpisodeRow, Span, Survey

_MISSING = "does not exist"
_CODECS = {"libsvtav1": "av1", "libdav1d": "av1", "libaom-av1": "av1", "libx264": "h264", "libx265": "hevc"}
_CODECS |= {"h265": "hevc", "x264": "h264"}


def films(survey: Survey) -> Iterator[tuple[str, str, Film, list[tuple[EpisodeRow, Span]]]]:
    """Yield (camera, file, film, its episodes in order of their beginning) of every video file."""
    for camera in survey.cameras:
        places: dict[str, list[tuple[EpisodeRow, Span]]] = {}
        for episode in survey.episodes:
            if camera in episode.spans:
                places.setdefault(episode.spans[camera].file, []).append((episode, episode.spans[camera]))
        for file, spans in places.items():
            yield camera, file, survey.films[file], sorted(spans, key=lambda item: item[1].from_s)


def missing(survey: Survey) -> Iterator[Place]:
    """Video files that are not there."""
    for camera, file, film, spans in films(survey):
        if film.error == _MISSING:
            yield Place(detail=f"{camera}: {_MISSING}", episode=only(spans), file=file)


def unreadable(survey: Survey) -> Iterator[Place]:
    """Video files that cannot be opened."""
    for camera, file, film, spans in films(survey):
        if film.error and film.error != _MISSING:
            yield Place(detail=f"{camera}: {film.error}"[:200], episode=only(spans), file=file)


def damaged(survey: Survey) -> Iterator[Place]:
    """Video files that cannot be decoded to their end."""
    for camera, file, film, spans in films(survey):
        if film.damage:
            yield Place(detail=f"{camera}: {film.damage}"[:200], episode=only(spans), file=file)


def only(spans: list[tuple[EpisodeRow, Span]]) -> int | None:
    """Return the episode of a file that holds just one."""
    return spans[0][0].index if len(spans) == 1 else None


def _info(survey: Survey, camera: str, name: str) -> Any:
    info: Mapping[str, Any] = survey.features[camera].info
    return info.get(f"video.{name}", info.get(name))


def size(survey: Survey) -> Iterator[Place]:
    """Frames of another size than the feature's shape; one row or column of padding is fine."""
    for camera, file, film, spans in films(survey):
        shape = survey.features[camera].shape
        sides = [side for side in shape if side != 3] or list(shape)
        sides = list(shape[1:]) if len(shape) == 3 and shape[0] == 3 != shape[2] else list(shape[:2]) or sides
        if not film.error and not all(
            own in (side, side + side % 2) for own, side in zip((film.height, film.width), sides, strict=False)
        ):
            detail = f"{camera}: frames are {film.height} x {film.width}, info.json says {sides[0]} x {sides[-1]}"
            yield Place(detail=detail, episode=only(spans), file=file)


def rate(survey: Survey) -> Iterator[Place]:
    """Videos of another rate than the dataset."""
    for camera, file, film, spans in films(survey):
        # A file of one frame has no rate of its own.
        off = abs(film.fps - survey.fps) > 0.001 * survey.fps and len(film.times_s) > 1
        if not film.error and survey.fps and off:
            detail = f"{camera}: {film.fps:g} fps, info.json says {survey.fps:g}"
            yield Place(detail=detail, episode=only(spans), file=file)


def codec(survey: Survey) -> Iterator[Place]:
    """Videos of another codec than info.json says."""
    for camera, file, film, spans in films(survey):
        said = _info(survey, camera, "codec")
        wanted, own = (_CODECS.get(str(name), str(name)) for name in (said, film.codec))
        if not film.error and isinstance(said, str) and wanted != own:
            yield Place(detail=f"{camera}: {own}, info.json says {said}", episode=only(spans), file=file)


AGAIN = "take the file from a copy, or delete its episodes with `kinema data edit delete`"
CHECKS = (
    Check(id="video-missing", severity="error", meaning="a video file is not there", fix=AGAIN, run=missing),
    Check(
        id="video-unreadable",
        severity="error",
        meaning="a video file is truncated or no video",
        fix=AGAIN,
        run=unreadable,
    ),
    Check(
        id="video-damaged",
        severity="error",
        meaning="a video file opens but its frames cannot all be decoded",
        fix=AGAIN,
        run=damaged,
        needs=("info", "frames"),
    ),
    Check(
        id="video-size",
        severity="error",
        meaning="the frames are of another size than info.json says",
        fix="correct the shape in info.json, or encode the video anew",
        run=size,
    ),
    Check(
        id="video-rate",
        severity="error",
        meaning="the video plays at another rate than the rows: readers look up the wrong frame",
        fix="write the video with the dataset's fps",
        run=rate,
    ),
    Check(
        id="video-codec",
        severity="warning",
        meaning="the video is compressed otherwise than info.json says",
        fix="correct video.codec in info.json",
        run=codec,
    ),
)
