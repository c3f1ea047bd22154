"""Checks of what the cameras show: frozen, dark, bright, blurred, torn or mixed up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from kinema.data.doctor.base import Check, Place
from kinema.data.doctor.films import Looks
from kinema.data.doctor.survey import EpisodeRow, Survey

_BLACK, _WHITE, _FLAT = 12.0, 244.0, 4.0
_STILL, _FROZEN_S, _MOVING, _TRAVEL = 1.5, 0.3, 0.3, 4.0
_BLURRED = 0.4
_GLITCH, _GLITCH_TIMES = 2.0, 1.8

View = tuple[EpisodeRow, str, str, Looks, slice]
"""An episode, a camera, its file, what the file's frames look like, and the episode's frames in it."""


def views(survey: Survey) -> Iterator[View]:
    """Yield the views whose frames were decoded."""
    for episode in survey.episodes:
        for camera in survey.cameras:
            place = survey.frames(episode, camera)
            if place is None or episode.length < 1:
                continue
            file = episode.spans[camera].file
            looks = survey.films[file].looks
            if looks is not None and len(looks.brightness) >= place.stop:
                yield episode, camera, file, looks, place


def black(survey: Survey) -> Iterator[Place]:
    """Frames without light."""
    for episode, camera, file, looks, place in views(survey):
        dark = (looks.brightness[place] < _BLACK) & (looks.contrast[place] < _FLAT)
        if dark.any():
            yield Place(detail=f"{camera}: {_some(dark)} are black", episode=episode.index, file=file)


def flat(survey: Survey) -> Iterator[Place]:
    """Frames of one colour, white ones above all."""
    for episode, camera, file, looks, place in views(survey):
        level, spread = looks.brightness[place], looks.contrast[place]
        plain = ((level > _WHITE) & (spread < _FLAT)) | ((spread < 1) & (level >= _BLACK))
        if plain.any():
            kind = "white" if level[plain].mean() > _WHITE else "of one colour"
            yield Place(detail=f"{camera}: {_some(plain)} are {kind}", episode=episode.index, file=file)


def frozen(survey: Survey) -> Iterator[Place]:
    """Runs of frames that do not change while the robot moves as far as it usually does in `_TRAVEL` rows."""
    seen = list(views(survey))
    moving = {episode.index: speed(survey, episode) for episode, *_ in seen}
    alive = _alive(seen, moving)
    least = max(3, round(_FROZEN_S * survey.fps))
    for episode, camera, file, looks, place in seen:
        motion = moving[episode.index]
        if motion is None:
            continue
        still = looks.change[place] < _STILL
        still[0] = False
        for begin, end in runs(still):
            # The first still frame repeats the one before it. Small images show no motion of half a pixel.
            moved = motion[begin:end]
            if end - begin < least or moved.mean() <= _MOVING or moved.sum() < _TRAVEL:
                continue
            # Otherwise the scene may be one in which even much motion shows in no pixel.
            if alive[camera] > 2 * _STILL or end - begin > 10:
                seconds = (end - begin) / survey.fps
                detail = f"{camera}: frames {begin} to {end - 1} ({seconds:.1f} s) repeat while the robot moves"
                yield Place(detail=detail, episode=episode.index, file=file)


def _alive(seen: Sequence[View], moving: Mapping[int, np.ndarray | None]) -> dict[str, float]:
    """Return by camera how much its frames usually change while the robot moves, over all episodes."""
    changes: dict[str, list[np.ndarray]] = {}
    for episode, camera, _, looks, place in seen:
        motion = moving[episode.index]
        if motion is not None:
            changes.setdefault(camera, []).append(looks.change[place][1:][motion[1:] > _MOVING])
    joined = {camera: np.concatenate(values) for camera, values in changes.items()}
    return {camera: float(np.median(values)) if len(values) else 0.0 for camera, values in joined.items()}


def speed(survey: Survey, episode: EpisodeRow) -> np.ndarray | None:
    """Return how fast the observed vectors move, (T,), 1 where they do so as fast as usual in the episode."""
    total = np.zeros(episode.length)
    for name in survey.vectors:
        values = survey.numbers(episode, name)
        if values is None or len(values) != episode.length or name.startswith("action"):
            continue
        total += np.abs(np.diff(values, axis=0, prepend=values[:1]) / (np.ptp(values, axis=0) + 1e-9)).sum(axis=1)
    usual = np.median(total[total > 1e-6]) if (total > 1e-6).any() else 0.0
    return total / usual if usual else None


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Return (begin, end) of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def blurred(survey: Survey) -> Iterator[Place]:
    """Episodes in which a camera is much less sharp than in the others."""
    sharp: dict[str, dict[int, float]] = {}
    files = {}
    for episode, camera, file, looks, place in views(survey):
        # Noise and texture scale with the light, so sharpness is told per contrast; blur takes all of it in the dark.
        seen = looks.brightness[place] > _BLACK
        if not seen.any():
            continue
        ratio = looks.sharpness[place][seen] / np.maximum(looks.contrast[place][seen], _FLAT)
        sharp.setdefault(camera, {})[episode.index] = float(np.median(ratio))
        files[camera, episode.index] = file
    for camera, values in sharp.items():
        usual = float(np.median(list(values.values())))
        for index, value in values.items() if len(values) > 2 else ():
            if value < _BLURRED * usual:
                detail = f"{camera}: {100 * value / usual:.0f} % as sharp as in the other episodes"
                yield Place(detail=detail, episode=index, file=files[camera, index])


def glitch(survey: Survey) -> Iterator[Place]:
    """Single frames that are unlike both neighbours, which are like each other."""
    for episode, camera, file, looks, place in views(survey):
        shown = looks.thumb[place].astype(np.float32)
        if len(shown) < 4:
            continue
        step = np.abs(np.diff(shown, axis=0)).mean(axis=(1, 2, 3))
        around = np.abs(shown[2:] - shown[:-2]).mean(axis=(1, 2, 3))
        inner = np.minimum(step[:-1], step[1:])
        odd = inner > _GLITCH_TIMES * np.maximum(np.maximum(around, np.median(step)), _GLITCH)
        if odd.any():
            detail = f"{camera}: frame {int(np.argmax(odd)) + 1} is unlike its neighbours ({int(odd.sum())} such)"
            yield Place(detail=detail, episode=episode.index, file=file)


def swapped(survey: Survey) -> Iterator[Place]:
    """Episodes in which two cameras each show what the other one usually does."""
    means: dict[str, dict[int, np.ndarray]] = {}
    for episode, camera, _, looks, place in views(survey):
        means.setdefault(camera, {})[episode.index] = looks.thumb[place].mean(axis=0)
    usual = {camera: np.median(list(views.values()), axis=0) for camera, views in means.items() if len(views) > 2}
    names = sorted(usual)
    for one, other in [(a, b) for place, a in enumerate(names) for b in names[place + 1 :]]:
        for index in sorted(set(means[one]) & set(means[other])):
            own = _apart(means[one][index], usual[one]) + _apart(means[other][index], usual[other])
            cross = _apart(means[one][index], usual[other]) + _apart(means[other][index], usual[one])
            if own > 4 and cross < 0.5 * own:
                yield Place(detail=f"{one} and {other} show each other's view", episode=index)


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())


def _some(flags: np.ndarray) -> str:
    return f"{int(flags.sum())} of {len(flags)} frames (first {int(np.argmax(flags))})"


_LOOK = "look at it (`kinema data view`), then `kinema data edit delete` it"
_NEEDS = ("info", "frames")
CHECKS = (
    Check(
        id="image-black",
        severity="error",
        meaning="a camera delivered black frames",
        fix=_LOOK,
        run=black,
        needs=_NEEDS,
    ),
    Check(
        id="image-flat",
        severity="error",
        meaning="a camera delivered white frames or frames of one colour",
        fix=_LOOK,
        run=flat,
        needs=_NEEDS,
    ),
    Check(
        id="image-frozen",
        severity="error",
        meaning="a camera stood still while the robot moved: images and states do not belong together",
        fix=_LOOK,
        run=frozen,
        needs=(*_NEEDS, "rate"),
    ),
    Check(
        id="image-blurred",
        severity="warning",
        meaning="a camera is out of focus, or something is on its lens",
        fix=_LOOK,
        run=blurred,
        needs=_NEEDS,
    ),
    Check(
        id="image-glitch",
        severity="warning",
        meaning="single frames show something else than their neighbours: another camera's, or damaged",
        fix=_LOOK,
        run=glitch,
        needs=_NEEDS,
    ),
    Check(
        id="cameras-swapped",
        severity="error",
        meaning="two cameras changed places in an episode",
        fix="swap the files of the two cameras, or `kinema data edit delete` the episode",
        run=swapped,
        needs=_NEEDS,
    ),
)
