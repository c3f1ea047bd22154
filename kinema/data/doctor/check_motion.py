"""Checks of how vectors and actions move: jumps, sensors and commands that stand still, units."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from kinema.core.spec import ActionSpec, Vector
from kinema.data.doctor.base import Check, Place
from kinema.data.doctor.check_episodes import tasks_of
from kinema.data.doctor.survey import EpisodeRow, Survey
from kinema.data.lerobot.layout import feature_key

_JUMP, _JUMP_RANGE, _CONSTANT = 4.0, 0.25, 1e-6
_GRIPPER = re.compile(r"grip|finger|jaw|hand_open", re.IGNORECASE)


def components(survey: Survey, name: str) -> tuple[str, ...]:
    """Return the names of a vector's components; their places where nobody says."""
    width = survey.features[name].width
    spec = survey.spec
    described: list[Vector | ActionSpec] = [] if spec is None else [spec.action, *spec.observation.vectors]
    for part in described:
        key = feature_key(part.key if isinstance(part, Vector) else "action")
        if key == name and len(part.components) == width:
            return part.components
    names = ((survey.info or {}).get("features") or {}).get(name, {}).get("names")
    names = next(iter(names.values()), None) if isinstance(names, dict) else names
    if isinstance(names, list) and len(names) == width:
        return tuple(str(one) for one in names)
    return tuple(f"[{place}]" for place in range(width))


def is_gripper(name: str) -> bool:
    """Return whether a component is a gripper's, by its name."""
    return _GRIPPER.search(name) is not None


def numbers(survey: Survey, name: str, episodes: list[EpisodeRow]) -> dict[int, np.ndarray]:
    """Return the rows (T, D) of a vector by episode, of the declared width, at least four and finite."""
    width = survey.features[name].width
    found = {episode.index: survey.numbers(episode, name) for episode in episodes}
    return {
        index: values
        for index, values in found.items()
        if values is not None and values.shape[1:] == (width,) and len(values) > 3
    }


def jumps(survey: Survey) -> Iterator[Place]:
    """Single steps of an observed component far beyond what it does in the other episodes."""
    for name in survey.vectors:
        if name == "action":
            continue
        found = numbers(survey, name, list(survey.episodes))
        if len(found) < 3:
            continue
        labels = components(survey, name)
        largest = np.stack([np.abs(np.diff(values, axis=0)).max(axis=0) for values in found.values()])
        everything = np.concatenate(list(found.values()))
        span = np.quantile(everything, 0.95, axis=0) - np.quantile(everything, 0.05, axis=0)
        limit = np.maximum(_JUMP * np.median(largest, axis=0), _JUMP_RANGE * span)
        for index, high in zip(found, largest, strict=True):
            for place in np.flatnonzero((high > limit) & (limit > _CONSTANT)):
                column = found[index][:, place]
                if is_gripper(labels[place]) or _switches(column):
                    continue
                row = int(np.argmax(np.abs(np.diff(column))))
                if not _sudden(column, row):
                    continue
                more = "; an angle wraps around" if abs(high[place] - 2 * np.pi) < 0.35 else ""
                detail = f"{name} {labels[place]}: {high[place]:.4g} from row {row} to {row + 1}, usually at most "
                yield Place(detail=f"{detail}{np.median(largest[:, place]):.4g}{more}", episode=index)


def _sudden(column: np.ndarray, row: int) -> bool:
    """Return whether the step after `row` is far beyond those around it, not part of a fast motion."""
    steps = np.abs(np.diff(column))
    around = [*steps[max(0, row - 4) : max(0, row - 1)], *steps[row + 2 : row + 5]]
    return not around or bool(steps[row] > _JUMP * max(around))


def _switches(column: np.ndarray) -> bool:
    """Return whether a component only has a few levels, between which it jumps as it should."""
    return len(np.unique(np.round((column - column.min()) / max(np.ptp(column), 1e-9), 2))) <= 3


def stuck(survey: Survey) -> Iterator[Place]:
    """Components that do not move in one episode although they do in all others of the task."""
    for group in tasks_of(survey):
        for name in survey.vectors:
            found = numbers(survey, name, group)
            if len(found) < 3:
                continue
            labels = components(survey, name)
            spread = np.stack([np.ptp(values, axis=0) for values in found.values()])
            usual = np.median(spread, axis=0)
            still = spread < np.maximum(1e-4 * usual, _CONSTANT)
            for place in np.flatnonzero((still.sum(axis=0) == 1) & (usual > 10 * _CONSTANT)):
                index = list(found)[int(np.argmax(still[:, place]))]
                if not is_gripper(labels[place]):
                    yield Place(detail=f"{name} {labels[place]} does not move", episode=index)


def frozen_vector(survey: Survey) -> Iterator[Place]:
    """Vectors that repeat one row for long while the rest of the robot moves, as they do not in its other episodes."""
    for group in tasks_of(survey):
        for name in survey.vectors:
            longest = {
                index: _longest(np.abs(np.diff(values, axis=0)).max(axis=1) <= 1e-9)
                for index, values in numbers(survey, name, group).items()
            }
            usual = float(np.median([end - begin for begin, end in longest.values()] or [0]))
            # A command may be held, above all at a bound; an observation that does not change was not measured.
            share = 0.5 if name == "action" else 0.15
            for episode in group:
                begin, end = longest.get(episode.index, (0, 0))
                if end - begin < max(5.0, share * episode.length, 2 * usual):
                    continue
                others = _others_move(survey, episode, name)
                if others is not None and others[begin:end].mean() >= 0.8:
                    detail = f"{name} repeats one row from {begin} to {end} of {episode.length} while the rest moves"
                    yield Place(detail=detail, episode=episode.index, file=episode.data_file)


def _longest(still: np.ndarray) -> tuple[int, int]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], still.astype(int), [0]])))
    found = list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
    return max(found, key=lambda run: run[1] - run[0], default=(0, 0))


def _others_move(survey: Survey, episode: EpisodeRow, name: str) -> np.ndarray | None:
    """Return at which steps (T-1,) some other vector moves noticeably."""
    moving = None
    for other in survey.vectors:
        values = survey.numbers(episode, other)
        if other == name or values is None or len(values) != episode.length:
            continue
        usual = np.ptp(values, axis=0) / len(values)
        found = (np.abs(np.diff(values, axis=0)) > np.maximum(0.1 * usual, 1e-6)).any(axis=1)
        moving = found if moving is None else moving | found
    return moving


_LOOK = "look at it (`kinema data view`), then `kinema data edit delete` it"
CHECKS = (
    Check(
        id="state-jump",
        severity="warning",
        meaning="an observed component jumps as no other episode does: a lost packet, a reset, a wrapped angle",
        fix=_LOOK,
        run=jumps,
    ),
    Check(
        id="component-stuck",
        severity="warning",
        meaning="a component stands still in one episode: a sensor or joint was off",
        fix=_LOOK,
        run=stuck,
    ),
    Check(
        id="vector-frozen",
        severity="error",
        meaning="a whole vector repeats one row while the rest of the robot moves",
        fix=_LOOK,
        run=frozen_vector,
    ),
)
