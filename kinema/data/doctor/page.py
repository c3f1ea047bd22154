"""The report as one HTML page that opens from disk and asks nothing of the network."""

from __future__ import annotations

import base64
import io
import re
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from kinema.data.doctor.base import Report
from kinema.data.doctor.diagnose import BY_ID
from kinema.data.doctor.films import pictures
from kinema.data.doctor.survey import EpisodeRow, Survey

_FLAGGED, _HEALTHY, _FRAMES, _WIDTH = 12, 3, 6, 160
_MOST = 40
"""Findings of one check that are listed before the rest is counted."""


def build_page(survey: Survey, report: Report, *, command: str) -> str:
    """Return the page: the verdict, findings by check, frames of flagged and of a few healthy episodes."""
    environment = Environment(
        loader=FunctionLoader(_asset), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"sentence": _sentence, "code": _code}
    groups = [{"check": BY_ID[name], "findings": found} for name, found in report.by_check()]
    bad = [episode for episode in survey.episodes if episode.index in report.bad_episodes]
    good = [episode for episode in survey.episodes if episode.index not in report.bad_episodes]
    reasons: dict[int, list[str]] = {}
    for finding in report.findings:
        if finding.episode is not None and finding.check not in reasons.setdefault(finding.episode, []):
            reasons[finding.episode].append(finding.check)
    return environment.get_template("page.html").render(
        report=report,
        groups=groups,
        most=_MOST,
        flagged=[_strip(survey, episode, reasons[episode.index]) for episode in bad[:_FLAGGED]],
        flagged_left=max(0, len(bad) - _FLAGGED),
        healthy=[_strip(survey, episode, []) for episode in good[:: max(1, len(good) // _HEALTHY)][:_HEALTHY]],
        passed=[name for name in report.checked if name not in {finding.check for finding in report.findings}],
        errors=sum(finding.severity == "error" for finding in report.findings),
        warnings=sum(finding.severity == "warning" for finding in report.findings),
        command=command,
    )


def _asset(name: str) -> str:
    return resources.files("kinema.data.doctor").joinpath(name).read_text("utf-8")


def _sentence(text: str) -> str:
    """Return the text with a full stop and a capital letter, unless it begins with a file's name."""
    first = text.split()[0]
    return f"{text if '.' in first or '/' in first else text[0].upper() + text[1:]}."


def _code(text: str) -> Markup:
    """Return the text with what stands in backticks set as code."""
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped just before


def _strip(survey: Survey, episode: EpisodeRow, reasons: list[str]) -> dict[str, Any]:
    cameras = {}
    for camera, span in episode.spans.items():
        length_s = episode.length / survey.fps if survey.fps else 0.0
        frames = pictures(survey.root / span.file, from_s=span.from_s, to_s=span.from_s + length_s, count=_FRAMES)
        cameras[camera.rsplit(".", 1)[-1]] = [_jpeg(frame) for frame in frames]
    return {"episode": episode, "reasons": reasons, "cameras": cameras, "task": ", ".join(episode.tasks)}


def _jpeg(frame: np.ndarray) -> str:
    image = Image.fromarray(frame)
    scale = _WIDTH / image.width
    # Small pictures are shown as they are, larger than life by the page.
    if scale < 1:
        image = image.resize((_WIDTH, max(1, round(image.height * scale))))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def write_page(path: Path, survey: Survey, report: Report, *, command: str) -> None:
    """Write the page to `path` in one step."""
    from kinema.core.files import write_text

    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, build_page(survey, report, command=command))
