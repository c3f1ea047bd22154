"""One HTML file that shows episodes of a dataset: a film of each camera above curves of every vector and the action."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from kinema.core.spec import ACTION
from kinema.data.lerobot.reader import Dataset, EpisodeRecord
from kinema.data.video import encode_mp4_bytes
from kinema.data.view.curves import chart
from kinema.data.windows import check_episodes

Progress = Callable[[int, int], None]
"""Told (episodes drawn, episodes in all)."""


def build_page(
    dataset: Dataset,
    episodes: Sequence[int],
    *,
    notes: Mapping[int, Sequence[str]] | None = None,
    progress: Progress | None = None,
) -> str:
    """Return the page as HTML that opens from disk and asks nothing of the network.

    `notes` are lines to show with an episode, such as why its quality is low.
    """
    chosen = check_episodes(dataset, episodes)
    shown = []
    for at, index in enumerate(chosen):
        shown.append(_episode(dataset, dataset.episodes[index], (notes or {}).get(index, ())))
        if progress is not None:
            progress(at + 1, len(chosen))
    environment = Environment(
        loader=FunctionLoader(_asset), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    lengths = [record.length for record in dataset.episodes]
    return environment.get_template("view.html").render(
        name=dataset.root.name, spec=dataset.spec, episodes=shown, total=len(dataset.episodes),
        frames=len(dataset), median=int(np.median(lengths)), tasks=len(dataset.tasks), hash=dataset.content_hash,
        style=Markup(_asset("view.css")), script=Markup(_asset("view.js")),  # noqa: S704 - files of this package
    )  # fmt: skip


def _asset(name: str) -> str:
    return resources.files("kinema.data.view").joinpath(name).read_text("utf-8")


def _episode(dataset: Dataset, record: EpisodeRecord, notes: Sequence[str]) -> dict[str, Any]:
    rows = slice(record.start, record.start + record.length)
    rate = dataset.spec.rate_hz
    films = []
    for camera in dataset.spec.observation.cameras:
        frames = dataset.frames(camera.name).read(np.arange(rows.start, rows.stop))
        film = base64.b64encode(encode_mp4_bytes(frames, rate)).decode("ascii")
        films.append({"name": camera.name, "data": film, "width": camera.width, "height": camera.height})
    charts = []
    for vector in dataset.spec.observation.vectors:
        charts += _charts(dataset.column(vector.key)[rows], rate, vector.name, vector.components, vector.units)
    action = dataset.spec.action
    charts += _charts(dataset.column(ACTION)[rows], rate, "action", action.components, action.units)
    return {
        "record": record,
        "seconds": record.length / rate,
        "origin": ", ".join(f"{name} {value}" for name, value in record.origin.items()),
        "films": films,
        "charts": charts,
        "notes": notes,
    }


def _charts(
    values: np.ndarray, rate_hz: float, title: str, components: Sequence[str], units: Sequence[str]
) -> list[Markup]:
    """Return one chart per unit: lines with different units have no common axis."""
    charts = []
    for unit in dict.fromkeys(units):
        at = [i for i, other in enumerate(units) if other == unit]
        charts.append(chart(values[:, at], rate_hz, title=title, unit=unit, names=[components[i] for i in at]))
    return charts
