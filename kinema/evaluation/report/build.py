"""Builds the report: one HTML file that opens from disk and asks nothing of the network."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from kinema.core.episode import Start
from kinema.core.errors import KinemaError
from kinema.evaluation.intervals import percent
from kinema.evaluation.report.charts import Series, histogram_chart, line_chart, rate_bar
from kinema.evaluation.report.inputs import ActionSamples, ReportInputs, Video
from kinema.evaluation.report.verdict import arm_sentence, rate_text, unneeded_tasks, verdict
from kinema.evaluation.results import ArmResult, Evaluation


def build_report(inputs: ReportInputs) -> str:
    """Return the page as HTML, shorter than `inputs.size_limit` bytes.

    Videos that would exceed the limit are left out, and the page says how many. Raises KinemaError when the page is
    too large without any video, or when the main arm is not finished.
    """
    bare = _render(inputs, [], len(inputs.videos))
    kept = _affordable(inputs, inputs.size_limit - len(bare.encode()))
    page = _render(inputs, kept, len(inputs.videos) - len(kept))
    size = len(page.encode())
    if size > inputs.size_limit:
        raise KinemaError(f"the report needs {size} bytes, more than the limit of {inputs.size_limit}")
    return page


def _affordable(inputs: ReportInputs, budget: int) -> list[Video]:
    """Return the videos that fit into `budget` bytes: those of the main arm first, failures before successes."""
    overhead = 1200  # caption, link and grid mark of one video, generously
    order = {arm.name: place for place, arm in enumerate(inputs.evaluation.arms)}
    kept = []
    for video in sorted(inputs.videos, key=lambda v: (v.arm != inputs.evaluation.main, order[v.arm], v.success)):
        text = 4 * len(json.dumps(asdict(video.trial), ensure_ascii=False).encode())  # escaping lengthens, twice shown
        need = -(-len(video.mp4) // 3) * 4 + overhead + text
        if need <= budget:
            kept.append(video)
            budget -= need
    return kept


def _render(inputs: ReportInputs, videos: Sequence[Video], left_out: int) -> str:
    environment = Environment(
        loader=FunctionLoader(_asset), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "rate_text": rate_text, "bar": rate_bar, "pretty": _pretty}
    evaluation = inputs.evaluation
    main = evaluation.arm(evaluation.main)
    numbers = {(video.arm, video.trial.start): number for number, video in enumerate(videos)}
    return environment.get_template("report.html").render(
        inputs=inputs,
        evaluation=evaluation,
        main=main,
        others=[arm for arm in evaluation.arms if arm.name != main.name],
        verdict=verdict(evaluation),
        sentences={arm.name: arm_sentence(evaluation, arm) for arm in evaluation.arms if arm.name != main.name},
        unneeded=unneeded_tasks(evaluation),
        grids=[_grid(arm, numbers) for arm in evaluation.arms],
        videos=_clips(evaluation, videos),
        left_out=left_out,
        curves=_curves(inputs.training_log),
        histograms=_histograms(inputs.actions),
    )


def _asset(name: str) -> str:
    return resources.files("kinema.evaluation.report").joinpath(name).read_text("utf-8")


def _pretty(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _grid(arm: ArmResult, numbers: Mapping[tuple[str, Start], int]) -> dict[str, Any]:
    rows: dict[str, list[dict[str, Any]]] = {}
    for outcome in arm.outcomes:
        start = outcome.trial.start
        ending = "succeeded" if outcome.success else "failed"
        steps = f"{outcome.steps} step{'s' * (outcome.steps != 1)}"
        asked = f"“{outcome.trial.instruction}” ({outcome.trial.variant})"
        cell = {
            "success": outcome.success,
            "text": f"{start.task}, episode {start.episode}: {ending} after {steps}; seed {start.seed}; {asked}",
            "video": numbers.get((arm.name, start)),
        }
        rows.setdefault(start.task, []).append(cell)
    return {"arm": arm, "rows": rows}


def _clips(evaluation: Evaluation, videos: Sequence[Video]) -> dict[str, list[dict[str, Any]]]:
    """Return the videos of each arm, in the order given; a film that ends otherwise than its trial is an error."""
    outcomes = {(arm.name, outcome.trial.start): outcome for arm in evaluation.arms for outcome in arm.outcomes}
    clips: dict[str, list[dict[str, Any]]] = {}
    for number, video in enumerate(videos):
        outcome = outcomes[video.arm, video.trial.start]
        if outcome.success != video.success:
            raise KinemaError(f"the video of {video.trial.start} (arm {video.arm!r}) contradicts the trial's outcome")
        data = base64.b64encode(video.mp4).decode("ascii")
        clips.setdefault(video.arm, []).append({"number": number, "video": video, "steps": outcome.steps, "data": data})
    return clips


def _curves(rows: Sequence[Mapping[str, float | None]]) -> list[Markup]:
    def line(column: str, name: str, css: str) -> Series:
        known = [(row["step"], row[column]) for row in rows if row.get(column) is not None]
        return Series(name=name, x=[float(x or 0) for x, _ in known], y=[float(y or 0) for _, y in known], css=css)

    wanted = (
        ("Loss", "mean per batch", [line("loss", "training", "policy"), line("held_out_loss", "held out", "held-out")]),
        ("Learning rate", "", [line("learning_rate", "learning rate", "policy")]),
        ("Throughput", "samples/s", [line("samples_per_s", "samples per second", "policy")]),
    )
    return [
        line_chart([one for one in lines if len(one.x)], title=title, x_label="step", y_label=unit)
        for title, unit, lines in wanted
        if any(len(one.x) for one in lines)
    ]


def _histograms(actions: ActionSamples | None) -> list[Markup]:
    if actions is None:
        return []
    return [
        histogram_chart(actions.policy[:, i], actions.demonstrations[:, i], title=name, x_label=f"{name} [{unit}]")
        for i, (name, unit) in enumerate(zip(actions.components, actions.units, strict=True))
    ]
