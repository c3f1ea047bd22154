"""Checks of the numbers themselves: finite, and summed up correctly in the statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from kinema.data.doctor.base import Check, Place
from kinema.data.doctor.check_meta import reported
from kinema.data.doctor.survey import EpisodeRow, Survey
from kinema.data.lerobot.episode_stats import QUANTILES, FeatureStats, merge, of_rows
from kinema.data.lerobot.layout import STATS

_EXACT = ("min", "max", "mean", "std")
_TOLERANCE = 2e-3
"""Of a component's range: other tools sum in single precision."""
_COLOUR = 0.03
"""Of full brightness: the statistics are of the frames before they were compressed, and of some of them only."""


def finite(survey: Survey) -> Iterator[Place]:
    """NaN or infinity in a vector, the action or a time."""
    for episode in survey.episodes:
        for name in survey.features:
            values = survey.rows(episode, name)
            if values is None or not np.issubdtype(values.dtype, np.floating):
                continue
            bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
            if len(bad):
                detail = f"{name}: {len(bad)} of {len(values)} rows; first row {int(bad[0])}"
                yield Place(detail=detail, episode=episode.index, file=episode.data_file)


def wrong(stored: Mapping[str, Any], true: FeatureStats) -> str:
    """Return which of the stored statistics differ from the true ones, and how; an empty string when none does."""
    scale = np.maximum(true["max"] - true["min"], 1e-3 * np.abs(true["mean"]) + 1e-6)
    for name in (*_EXACT, *(name for name in QUANTILES if name in stored)):
        own = _array(stored.get(name))
        if own is None or own.shape != true["mean"].shape:
            return f"{name} is missing or not {len(true['mean'])} numbers"
        if name in _EXACT:
            off = ~(np.abs(own - true[name]) <= _TOLERANCE * scale)
        else:
            # Tools differ in how they interpolate and merge quantiles; outside the range none can be right.
            off = ~((own >= true["min"] - _TOLERANCE * scale) & (own <= true["max"] + _TOLERANCE * scale))
        if off.any():
            place = int(np.argmax(off))
            return f"{name}[{place}] is {own[place]:.6g}, recomputed {true[name][place]:.6g}"
    count = _array(stored.get("count"))
    if count is None or count.tolist() != true["count"].tolist():
        return f"count is {stored.get('count')!r:.40}, recomputed {int(true['count'][0])}"
    return ""


def _array(value: Any) -> np.ndarray | None:
    try:
        return np.atleast_1d(np.asarray(value, np.float64))
    except (TypeError, ValueError):
        return None


def stored_of(episode: EpisodeRow, feature: str) -> dict[str, Any]:
    """Return an episode's stored statistics of a feature, by name."""
    prefix = f"stats/{feature}/"
    return {name[len(prefix) :]: value for name, value in episode.stats.items() if name.startswith(prefix)}


def episode_stats(survey: Survey) -> Iterator[Place]:
    """Per-episode statistics that are not those of the episode's rows and frames."""
    for episode in survey.episodes:
        for name in survey.vectors:
            values, stored = survey.numbers(episode, name), stored_of(episode, name)
            if values is not None and stored and (problem := wrong(stored, of_rows(values))):
                yield Place(detail=f"{name}: {problem}", episode=episode.index, file=episode.file)
        for camera in survey.cameras:
            mean = _array(stored_of(episode, camera).get("mean"))
            true = colour(survey, episode, camera)
            if true is None or mean is None:
                continue
            if mean.size != 3 or not np.abs(mean.reshape(3) - true).max() <= _COLOUR:
                found = ", ".join(f"{value:.3f}" for value in mean.reshape(-1)[:3])
                detail = f"{camera}: mean colour {found}, recomputed {true[0]:.3f}, {true[1]:.3f}, {true[2]:.3f}"
                yield Place(detail=detail, episode=episode.index, file=episode.file)


def colour(survey: Survey, episode: EpisodeRow, camera: str) -> np.ndarray | None:
    """Return the mean colour (3,) in 0..1 of an episode's frames; None when they are not decoded."""
    place = survey.frames(episode, camera)
    looks = None if place is None else survey.films[episode.spans[camera].file].looks
    if looks is None or place is None or len(looks.thumb) < place.stop or episode.length < 1:
        return None
    # The statistics look at up to 100 frames; so does this.
    chosen = np.unique(np.linspace(place.start, place.stop - 1, min(episode.length, 100)).round().astype(int))
    mean: np.ndarray = looks.thumb[chosen].reshape(-1, 3).mean(axis=0) / 255
    return mean


def recomputed(survey: Survey, name: str) -> FeatureStats | None:
    """Return a vector's statistics over all episodes, merged as the writer does; None when a row cannot be read."""
    total: FeatureStats | None = None
    for episode in survey.episodes:
        values = survey.rows(episode, name)
        if values is None or not len(values) or values.shape[1] != survey.features[name].width:
            return None
        if not np.issubdtype(values.dtype, np.number) or not np.isfinite(values).all():
            return None
        total = merge(total, of_rows(values))
    return total


def total_stats(survey: Survey) -> Iterator[Place]:
    """Statistics in stats.json that are not those of all rows."""
    if survey.stats is None:
        return
    for name in survey.vectors:
        true, stored = recomputed(survey, name), survey.stats.get(name)
        if not isinstance(stored, Mapping):
            yield Place(detail=f"{name}: no statistics", file=STATS)
        elif true is not None and (problem := wrong(stored, true)):
            yield Place(detail=f"{name}: {problem}", file=STATS)


CHECKS = (
    Check(
        id="not-finite",
        severity="error",
        meaning="NaN or infinity in the data: one such row makes a training's loss NaN",
        fix="delete the episode with `kinema data edit delete`; find the sensor that delivered it",
        run=finite,
    ),
    Check(
        id="stats-unreadable",
        severity="error",
        meaning="meta/stats.json is missing or no JSON object: nothing can be normalised",
        fix="`kinema data doctor DIR --fix` computes it anew",
        run=reported("stats-unreadable"),
    ),
    Check(
        id="stats",
        severity="error",
        meaning="meta/stats.json is not what the rows say: a policy would be normalised wrongly",
        fix="`kinema data doctor DIR --fix` computes it anew",
        run=total_stats,
    ),
    Check(
        id="episode-stats",
        severity="error",
        meaning="an episode's statistics are not those of its rows: the totals are made of them",
        fix="`kinema data doctor DIR --fix` computes them anew",
        run=episode_stats,
    ),
)
