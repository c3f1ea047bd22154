"""Charts as inline SVG: pure functions from numbers to markup, coloured by the page's CSS classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from kinema.core.errors import KinemaError
from kinema.evaluation.intervals import MeanRate, Rate, percent

_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 12.0, 10.0, 36.0


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a chart: x and y of equal length, `css` the class that colours and dashes it."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    css: str


def rate_bar(rate: Rate | MeanRate, css: str = "") -> Markup:
    """Return a bar from 0 to 100 % with a whisker over the 95 % interval; it stretches to the width it is given."""
    low, high = rate.interval()
    label = f"{percent(rate.rate)} %, 95 % interval {percent(low)} to {percent(high)} %, n = {rate.n}"
    ends = (_number(100 * low), _number(100 * high))
    return Markup(
        '<svg class="rate {css}" viewBox="0 0 100 12" preserveAspectRatio="none" role="img" aria-label="{label}">'
        '<rect class="track" x="0" y="2" width="100" height="8"/>'
        '<rect class="fill" x="0" y="2" width="{width}" height="8"/>'
        '<path class="halo" d="{path}"/><path class="whisker" d="{path}"/></svg>'
    ).format(
        css=css,
        label=label,
        width=_number(100 * rate.rate),
        path=f"M{ends[0]} 6H{ends[1]}M{ends[0]} 2.5V9.5M{ends[1]} 2.5V9.5",
    )


def line_chart(
    series: Sequence[Series], *, title: str, x_label: str, y_label: str, width: int = 360, height: int = 220
) -> Markup:
    """Return lines over common axes; the y axis is logarithmic, and says so, when positive values span over 1:20.

    Raises KinemaError when there is nothing finite to draw.
    """
    drawn = [_finite(line) for line in series]
    x = np.concatenate([line[0] for line in drawn] or [np.empty(0)])
    y = np.concatenate([line[1] for line in drawn] or [np.empty(0)])
    if not len(x):
        raise KinemaError(f"chart {title!r}: no finite values to draw")
    log = bool(y.min() > 0 and y.max() / y.min() > 20)
    frame = _Frame(_span(x, 0.0, log=False), _span(y, 0.06, log=log), width, height, log)
    lines = [
        Markup('<polyline class="line {}" points="{}"/>').format(line.css, frame.points(*_thinned(*values)))
        for line, values in zip(series, drawn, strict=True)
        if len(values[0])
    ]
    label = f"{y_label} (log)" if log else y_label
    return frame.svg(title, x_label, label, Markup("").join(lines))


def histogram_chart(
    policy: np.ndarray, demonstrations: np.ndarray, *, title: str, x_label: str, bins: int = 28
) -> Markup:
    """Return the share of values per bin, demonstrations as an area and policy as a line, over bins common to both."""
    values = [np.asarray(sample, np.float64).ravel() for sample in (policy, demonstrations)]
    if not all(len(sample) and np.isfinite(sample).all() for sample in values):
        raise KinemaError(f"histogram {title!r}: needs finite values of both policy and demonstrations")
    low, high = _span(np.concatenate(values), 0.0, log=False)
    edges = np.linspace(low, high, bins + 1)
    shares = [np.histogram(sample, edges)[0] / len(sample) for sample in values]
    frame = _Frame((low, high), (0.0, 1.08 * max(share.max() for share in shares)), 280, 170, log=False)
    outlines = [frame.points(np.repeat(edges, 2), np.concatenate([[0], np.repeat(share, 2), [0]])) for share in shares]
    body = Markup('<polygon class="area demos" points="{}"/><polyline class="line policy" points="{}"/>')
    return frame.svg(title, x_label, "share", body.format(outlines[1], outlines[0]))


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return about `count` round numbers (1, 2 or 5 times a power of ten apart) within [low, high]."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return powers of ten within [low, high], with their 2s and 5s when there would be fewer than three."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 2, 5)):
        found = [factor * 10.0**exponent for exponent in exponents for factor in factors]
        inside = [value for value in found if low <= value <= high]
        if len(inside) >= 3:
            break
    every = -(-len(inside) // 6)
    return inside[::every]


def tick_label(value: float) -> str:
    """Return a short text for a tick: 20000 as "20k", 0.0001 as "1e-4"."""
    if abs(value) >= 10_000:
        return f"{value / 1e6:g}M" if abs(value) >= 1e6 else f"{value / 1000:g}k"
    return f"{value:g}".replace("e-0", "e-").replace("-", "\N{MINUS SIGN}")


class _Frame:
    """Axes: maps data to the picture and draws grid, ticks and labels."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], width: float, height: float, log: bool) -> None:
        self.x, self.y, self.width, self.height, self.log = x, y, width, height, log

    def place_x(self, x: np.ndarray) -> np.ndarray:
        share = (np.asarray(x, np.float64) - self.x[0]) / (self.x[1] - self.x[0])
        return _LEFT + share * (self.width - _LEFT - _RIGHT)

    def place_y(self, y: np.ndarray) -> np.ndarray:
        scale = np.log10 if self.log else np.asarray
        low, high = (float(scale(end)) for end in self.y)
        share = (scale(np.asarray(y, np.float64)) - low) / (high - low)
        return self.height - _BOTTOM - share * (self.height - _TOP - _BOTTOM)

    def points(self, x: np.ndarray, y: np.ndarray) -> str:
        return " ".join(f"{_number(a)},{_number(b)}" for a, b in zip(self.place_x(x), self.place_y(y), strict=True))

    def svg(self, title: str, x_label: str, y_label: str, body: Markup) -> Markup:
        bottom, right = self.height - _BOTTOM, self.width - _RIGHT
        parts = [Markup('<path class="axis" d="M{:g} {:g}H{:g}"/>').format(_LEFT, bottom, right)]
        for value in log_ticks(*self.y) if self.log else ticks(*self.y):
            at = _number(float(self.place_y(np.asarray(value))))
            parts.append(Markup('<path class="grid" d="M{:g} {}H{:g}"/>').format(_LEFT, at, right))
            parts.append(_text("tick", f"{_LEFT - 6:g}", f"{at}", "end", tick_label(value)))
        for value in ticks(*self.x):
            at = _number(float(self.place_x(np.asarray(value))))
            parts.append(Markup('<path class="axis" d="M{} {:g}v4"/>').format(at, bottom))
            parts.append(_text("tick", at, f"{bottom + 12:g}", "middle", tick_label(value)))
        parts.append(_text("label", f"{right:g}", f"{self.height - 8:g}", "end", x_label))
        return Markup(
            '<figure class="chart"><figcaption>{title} <span>{y_label}</span></figcaption>'
            '<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}: {y_label} over {x_label}">'
            "{grid}{body}</svg></figure>"
        ).format(
            title=title, y_label=y_label, x_label=x_label, width=f"{self.width:g}", height=f"{self.height:g}",
            grid=Markup("").join(parts), body=body,
        )  # fmt: skip


def _text(css: str, x: str, y: str, anchor: str, text: str) -> Markup:
    markup = Markup('<text class="{}" x="{}" y="{}" dy=".32em" text-anchor="{}">{}</text>')
    return markup.format(css, x, y, anchor, text)


def _finite(line: Series) -> tuple[np.ndarray, np.ndarray]:
    if len(line.x) != len(line.y):
        raise KinemaError(f"line {line.name!r}: {len(line.x)} x but {len(line.y)} y")
    x, y = np.asarray(line.x, np.float64), np.asarray(line.y, np.float64)
    keep = np.isfinite(x) & np.isfinite(y)
    return x[keep], y[keep]


def _thinned(x: np.ndarray, y: np.ndarray, most: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Return means of equal runs when there are more points than a small picture can show."""
    if len(x) <= most:
        return x, y
    runs = np.array_split(np.arange(len(x)), most)
    return np.array([x[run].mean() for run in runs]), np.array([y[run].mean() for run in runs])


def _span(values: np.ndarray, margin: float, *, log: bool) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if log:
        return low / 1.15, high * 1.15
    if high == low:
        pad = abs(low) / 2 or 0.5
        return low - pad, high + pad
    pad = margin * (high - low)
    return low - pad, high + pad


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
