"""Curves over time as inline SVG: pure functions from numbers to markup, coloured by the page's CSS classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 360.0, 132.0, 58.0, 20.0, 8.0
"""About what a phone has, so that letters keep their size there; view.js knows the first and the third."""
_MOST_POINTS = 400
COLOURS = 6
"""Classes c0, c1, ... of the lines; later components begin again, dashed."""


def chart(values: np.ndarray, rate_hz: float, *, title: str, unit: str, names: Sequence[str]) -> Markup:
    """Return the components of `values` (T, D), which share a unit, as lines over time [s], with a legend."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = low - (abs(low) / 2 or 0.5), high + (abs(high) / 2 or 0.5)
    duration = max(len(values) - 1, 1) / rate_hz
    lines = Markup("").join(
        Markup('<polyline class="line {}" points="{}"/>').format(_look(at), _points(values[:, at], low, high))
        for at in range(values.shape[1])
    )
    legend = Markup("").join(
        Markup('<span class="{}"><i></i>{}</span>').format(_look(at), name) for at, name in enumerate(names)
    )
    return Markup(
        '<figure class="chart"><figcaption>{title} <em>{unit}</em><span class="legend">{legend}</span></figcaption>'
        '<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{title} [{unit}] over {duration:.3g} s">'
        '{axes}{lines}<line class="now" x1="{left:g}" x2="{left:g}" y1="{top:g}" y2="{bottom:g}"/></svg></figure>'
    ).format(
        title=title, unit=unit, legend=legend, width=_WIDTH, height=_HEIGHT, duration=duration,
        axes=_axes(low, high, duration), lines=lines, left=_LEFT, top=_TOP, bottom=_HEIGHT - _BOTTOM,
    )  # fmt: skip


def _look(at: int) -> str:
    return f"c{at % COLOURS}" + " again" * (at >= COLOURS)


def _tick(value: float, span: float) -> str:
    """Return `value` to a hundredth of `span`: more digits say nothing beside the curve."""
    return f"{round(value, 2 - math.floor(math.log10(span))) + 0.0:.10g}"


def _points(values: np.ndarray, low: float, high: float) -> str:
    at = np.unique(np.linspace(0, len(values) - 1, min(len(values), _MOST_POINTS)).round().astype(int))
    x = _LEFT + at / max(len(values) - 1, 1) * (_WIDTH - _LEFT - 4)
    y = _y(values[at].astype(np.float64), low, high)
    if len(at) == 1:
        # One step has no length: a flat line shows its value.
        x, y = np.array([_LEFT, _WIDTH - 4]), np.repeat(y, 2)
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))


def _y(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return _HEIGHT - _BOTTOM - (values - low) / (high - low) * (_HEIGHT - _BOTTOM - _TOP)


def _axes(low: float, high: float, duration: float) -> Markup:
    parts = []
    for value in (low, (low + high) / 2, high):
        y, text = float(_y(np.array(value), low, high)), _tick(value, high - low)
        parts.append(Markup('<path class="grid" d="M{:g} {:.1f}H{:g}"/>').format(_LEFT, y, _WIDTH - 4))
        parts.append(Markup('<text x="{:g}" y="{:.1f}" class="tick end">{}</text>').format(_LEFT - 6, y + 4, text))
    bottom = _HEIGHT - 5
    parts.append(Markup('<text x="{:g}" y="{:g}" class="tick">0 s</text>').format(_LEFT, bottom))
    parts.append(
        Markup('<text x="{:g}" y="{:g}" class="tick end">{:.3g} s</text>').format(_WIDTH - 4, bottom, duration)
    )
    return Markup("").join(parts)
