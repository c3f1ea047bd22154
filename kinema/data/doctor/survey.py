"""Everything a dataset directory says about itself, read without trusting any of it.

What cannot be read is kept as trouble under the id of the check that reports it; the checks then see only
well-typed values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kinema.core.spec import RobotSpec
from kinema.data.doctor.base import Place
from kinema.data.doctor.films import Film

Progress = Callable[[int, int], None]
"""Told (videos scanned, videos in all)."""


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One entry of `features` in info.json."""

    dtype: str
    shape: tuple[int, ...]
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """How many numbers one row has."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, kw_only=True)
class Span:
    """Where an episode lies in a video file, in seconds of presentation time."""

    file: str
    from_s: float
    to_s: float


@dataclass(frozen=True, kw_only=True)
class EpisodeRow:
    """One row of the episodes tables, as it stands there."""

    index: int
    length: int
    start: int
    stop: int
    tasks: tuple[str, ...]
    data_file: str
    spans: Mapping[str, Span]
    success: bool | None
    stats: Mapping[str, Any]
    file: str


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """The columns of one data file: name -> (N, D), or None where a column is no rectangle of numbers."""

    rows: int
    columns: Mapping[str, np.ndarray | None]
    types: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Survey:
    """A dataset directory as far as it could be read; `root` is the only path that is not relative."""

    root: Path
    info: Mapping[str, Any] | None
    fps: float
    features: Mapping[str, Feature]
    tasks: Mapping[int, str]
    task_rows: int
    episodes: tuple[EpisodeRow, ...]
    stats: Mapping[str, Any] | None
    spec: RobotSpec | None
    tables: Mapping[str, DataFile]
    films: Mapping[str, Film]
    deep: bool
    megabytes: float
    trouble: tuple[tuple[str, Place], ...] = ()

    @property
    def cameras(self) -> tuple[str, ...]:
        """The features that are videos."""
        return tuple(name for name, feature in self.features.items() if feature.dtype == "video")

    @property
    def vectors(self) -> tuple[str, ...]:
        """The action and the observations that are vectors of numbers."""
        return tuple(
            name
            for name, feature in self.features.items()
            if feature.dtype.startswith("float") and (name == "action" or name.startswith(("observation.", "action.")))
        )

    def troubles(self, check: str) -> list[Place]:
        """Return what could not be read, as far as the check `check` reports it."""
        return [place for name, place in self.trouble if name == check]

    def rows(self, episode: EpisodeRow, name: str) -> np.ndarray | None:
        """Return the episode's rows (T, D) of a column; None where they cannot be told.

        By position where the file holds as many rows as its episodes, else by the column `episode_index`.
        """
        table = self.tables.get(episode.data_file)
        values = None if table is None else table.columns.get(name)
        if table is None or values is None:
            return None
        start = self._starts.get((episode.data_file, episode.index))
        if start is not None:
            return values[start : start + episode.length]
        numbers = table.columns.get("episode_index")
        return None if numbers is None else values[numbers[:, 0] == episode.index]

    @cached_property
    def mates(self) -> Mapping[str, list[EpisodeRow]]:
        """The episodes of each data file, in order."""
        found: dict[str, list[EpisodeRow]] = {}
        for episode in self.episodes:
            found.setdefault(episode.data_file, []).append(episode)
        return found

    @cached_property
    def _starts(self) -> Mapping[tuple[str, int], int]:
        """The first row of an episode in its data file, where the file holds as many rows as its episodes."""
        starts = {}
        for file, mates in self.mates.items():
            table, start = self.tables.get(file), 0
            if table is None or sum(mate.length for mate in mates) != table.rows:
                continue
            for mate in mates:
                starts[file, mate.index] = start
                start += mate.length
        return starts

    def numbers(self, episode: EpisodeRow, name: str) -> np.ndarray | None:
        """Return an episode's rows (T, D) float64: at least two, of the declared width and finite, else None."""
        values = self.rows(episode, name)
        if values is None or len(values) < 2 or values.shape[1] != self.features[name].width:
            return None
        if not np.issubdtype(values.dtype, np.number):
            return None
        return values.astype(np.float64) if np.isfinite(values).all() else None

    def frames(self, episode: EpisodeRow, camera: str) -> slice | None:
        """Return the episode's place among the frames of its video; None unless all of it is there."""
        span = episode.spans.get(camera)
        film = None if span is None else self.films.get(span.file)
        if span is None or film is None or film.error or not np.isfinite(span.from_s):
            return None
        first = round(span.from_s * self.fps)
        if first < 0 or first + episode.length > len(film.times_s):
            return None
        return slice(first, first + episode.length)
