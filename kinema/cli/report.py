"""Write one offline HTML page about a run: rates with intervals, videos, curves, hashes, and how to run it again."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from kinema.core.errors import KinemaError

if TYPE_CHECKING:
    from kinema.evaluation.report.inputs import ActionSamples, Video
    from kinema.evaluation.results import Evaluation


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write RUN/report.html from what `kinema train` and `kinema eval` left in RUN; nothing is computed again."""

    run_directory: Annotated[Path, tyro.conf.Positional]
    """run directory"""

    def run(self) -> int:
        """Write the page and print its path."""
        sys.stdout.write(f"report: {write_report(self.run_directory)}\n")
        return 0


def write_report(run: Path) -> Path:
    """Return the path of the page written for `run`; raises KinemaError when nothing was evaluated yet."""
    from kinema.cli.trained import read_run
    from kinema.core import files
    from kinema.evaluation.report.build import build_report
    from kinema.evaluation.report.inputs import ReportInputs
    from kinema.evaluation.storage import load_evaluation

    if not (run / "eval" / "eval.json").exists():
        raise KinemaError(f"{run} has no evaluation\nfix: kinema eval {run} --suite metaworld --tasks mt10")
    evaluation = load_evaluation(run / "eval")
    manifest = read_run(run)
    inputs = ReportInputs(
        title="/".join(run.resolve().parts[-2:]),
        evaluation=evaluation,
        command=evaluation.manifest.command,
        run={key: value for key, value in manifest.items() if key != "trained"},
        configuration=manifest.get("trained", {}),
        training_log=_log_rows(run),
        videos=_videos(run, evaluation),
        actions=_actions(run, manifest),
    )
    page = run / "report.html"
    files.write_text(page, build_report(inputs))
    return page


def _log_rows(run: Path) -> list[dict[str, float | None]]:
    from kinema.evaluation.report.inputs import LOG_COLUMNS
    from kinema.train.logging import read_log

    path = run / "log.jsonl"
    rows = read_log(path) if path.exists() else []
    named = [{"held_out_loss": row.pop("loss"), **row} if row["kind"] == "held_out" else row for row in rows]
    measured = [row for row in named if row["kind"] in ("train", "held_out")]
    return [{name: row[name] for name in LOG_COLUMNS if name in row} for row in measured]


def _videos(run: Path, evaluation: Evaluation) -> list[Video]:
    from kinema.evaluation.report.inputs import Video

    videos = []
    for path in sorted((run / "eval" / "videos").glob("*.mp4")):
        arm, _, number = path.stem.rpartition("-")
        outcome = evaluation.arm(arm).outcomes[int(number)]
        videos.append(Video(arm=arm, trial=outcome.trial, success=outcome.success, mp4=path.read_bytes()))
    return videos


def _actions(run: Path, manifest: dict[str, Any]) -> ActionSamples | None:
    """Return what the policy executed beside what was demonstrated, when the dataset is still where and what it was."""
    import numpy as np

    from kinema.data.lerobot.reader import open_dataset
    from kinema.evaluation.report.inputs import ActionSamples
    from kinema.evaluation.storage import load_actions

    trained_on = manifest.get("data", {})
    data = Path(trained_on.get("path", ""))
    if not (data / "meta" / "info.json").exists():
        return None
    dataset = open_dataset(data)
    if dataset.content_hash != trained_on["content_hash"]:
        return None
    executed = [rows for key, rows in load_actions(run / "eval").items() if key.startswith("policy")]
    action = dataset.spec.action
    return ActionSamples(
        policy=np.concatenate(executed),
        demonstrations=dataset.column("action"),
        components=action.components,
        units=action.units,
    )
