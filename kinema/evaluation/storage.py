"""The files that hold an evaluation: `eval.json` for outcomes and rates, `actions.npz` for the executed actions."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kinema.core.episode import Start
from kinema.core.errors import KinemaError
from kinema.core.files import write_bytes, write_text
from kinema.evaluation.comparison import Comparison
from kinema.evaluation.intervals import CONFIDENCE, rate_entry
from kinema.evaluation.results import ArmResult, Evaluation, Latency, Manifest, Outcome
from kinema.evaluation.rollout import Trial

SCHEMA = 1
EVAL_FILE, ACTIONS_FILE = "eval.json", "actions.npz"


def action_key(arm: str, trial: int) -> str:
    """Return the name in `actions.npz` of the executed actions of an arm's trial, counted from 0."""
    return f"{arm}/{trial:05d}"


def to_document(evaluation: Evaluation) -> dict[str, Any]:
    """Return the content of `eval.json`: every rate with successes, n and the ends of its 95 % interval."""
    comparisons = evaluation.comparisons()
    return {
        "schema": SCHEMA,
        "confidence": CONFIDENCE,
        "complete": evaluation.complete,
        "planned": list(evaluation.planned),
        "main": evaluation.main,
        "manifest": {**asdict(evaluation.manifest), "seeds": list(evaluation.manifest.seeds)},
        "arms": [_arm_document(arm, comparisons.get(arm.name)) for arm in evaluation.arms],
    }


def _arm_document(arm: ArmResult, compared: tuple[Comparison, float] | None) -> dict[str, Any]:
    versus = None
    if compared is not None:
        table, adjusted = compared
        versus = {
            "both": table.both,
            "only_main": table.only_first,
            "only_this": table.only_second,
            "neither": table.neither,
            "p_mcnemar_exact": table.p_value,
            "p_holm": adjusted,
        }
    return {
        "name": arm.name,
        "description": arm.description,
        "blind": arm.blind,
        "overall": {**rate_entry(arm.overall), "tasks": len(arm.tasks)},
        "tasks": {task: rate_entry(rate) for task, rate in arm.tasks.items()},
        "variants": {name: rate_entry(rate) for name, rate in arm.variants.items()},
        "versus_main": versus,
        "latency": asdict(arm.latency),
        "trials": [_trial_document(outcome) for outcome in arm.outcomes],
    }


def _trial_document(outcome: Outcome) -> dict[str, Any]:
    trial = outcome.trial
    asked = {"instruction": trial.instruction, "variant": trial.variant}
    return {**asdict(trial.start), **asked, "success": outcome.success, "steps": outcome.steps}


def from_document(document: Mapping[str, Any]) -> Evaluation:
    """Return the evaluation in `document`; a rate or p-value that its own trials do not give is an error."""
    if document.get("schema") != SCHEMA:
        raise KinemaError(f"schema {document.get('schema')!r}, expected {SCHEMA}")
    try:
        manifest = dict(document["manifest"])
        evaluation = Evaluation(
            arms=tuple(_arm_from(entry) for entry in document["arms"]),
            planned=tuple(document["planned"]),
            main=document["main"],
            manifest=Manifest(**{**manifest, "seeds": tuple(manifest["seeds"])}),
        )
        difference = _difference(document, to_document(evaluation), "")
    except (KeyError, TypeError, AttributeError) as error:
        raise KinemaError(f"not an evaluation: {type(error).__name__} {error}") from error
    if difference:
        raise KinemaError(f"the file contradicts its own trials: {difference}")
    return evaluation


def _arm_from(entry: Mapping[str, Any]) -> ArmResult:
    outcomes = tuple(
        Outcome(
            trial=Trial(
                start=Start(task=item["task"], seed=item["seed"], episode=item["episode"]),
                instruction=item["instruction"],
                variant=item["variant"],
            ),
            success=item["success"],
            steps=item["steps"],
        )
        for item in entry["trials"]
    )
    return ArmResult(
        name=entry["name"],
        description=entry["description"],
        blind=entry["blind"],
        outcomes=outcomes,
        latency=Latency(**entry["latency"]),
    )


def _difference(have: Any, want: Any, path: str) -> str:
    if isinstance(have, dict) and isinstance(want, dict):
        for key in (*want, *have):
            if key not in have or key not in want:
                return f"{path}{key} is {'missing' if key not in have else 'unknown'}"
        pairs = [(have[key], want[key], f"{path}{key}.") for key in want]
    elif isinstance(have, list) and isinstance(want, list) and len(have) == len(want):
        pairs = [(a, b, f"{path}{index}.") for index, (a, b) in enumerate(zip(have, want, strict=True))]
    else:
        floats = isinstance(have, float) and isinstance(want, (int, float))
        same = math.isclose(have, want, rel_tol=1e-6, abs_tol=1e-12) if floats else have == want
        return "" if same else f"{path.rstrip('.')} is {have!r:.80}, expected {want!r:.80}"
    return next((found for a, b, where in pairs if (found := _difference(a, b, where))), "")


def load_evaluation(path: Path) -> Evaluation:
    """Return the evaluation stored at `path` (`eval.json` or its directory); what does not fit is a KinemaError."""
    path = path / EVAL_FILE if path.is_dir() else path
    try:
        return from_document(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise KinemaError(f"cannot read the evaluation {path}: {error}") from error


def load_actions(directory: Path) -> dict[str, np.ndarray]:
    """Return the executed actions (steps, A) float32 by `action_key`, as stored in `actions.npz`."""
    path = directory / ACTIONS_FILE
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise KinemaError(f"cannot read the executed actions {path}: {error}") from error


def save(evaluation: Evaluation, actions: Mapping[str, np.ndarray], directory: Path) -> None:
    """Write `actions.npz`, then `eval.json`, each in one step; a crash between them leaves the earlier evaluation."""
    buffer = io.BytesIO()
    np.savez(buffer, **dict(actions))  # type: ignore[arg-type]  # the stub takes every keyword for `allow_pickle`
    write_bytes(directory / ACTIONS_FILE, buffer.getvalue())
    write_text(directory / EVAL_FILE, json.dumps(to_document(evaluation), indent=1, ensure_ascii=False) + "\n")
