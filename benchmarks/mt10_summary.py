"""What the run directories of the MT10 benchmark hold, as figures; nothing is computed that they do not say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import results
from mt10_rows import DESCRIPTIONS, MAIN, REFERENCE, Row

from kinema.cli.trained import read_run
from kinema.core.config import to_data
from kinema.core.episode import Start
from kinema.evaluation.comparison import Comparison, paired
from kinema.evaluation.multiple import holm
from kinema.evaluation.results import ArmResult, Evaluation
from kinema.evaluation.storage import EVAL_FILE, load_evaluation

CONTROLS = ("held-out-words", "blind-camera", "wrong-instruction")
MISSING = "missing"


def recorded(data: Path, tasks: Sequence[str], demos: int) -> bool:
    """Return whether the dataset at `data` holds `demos` episodes of every task."""
    from kinema.data.lerobot.reader import open_dataset

    if not (data / "meta" / "info.json").is_file():
        return False
    dataset = open_dataset(data) if any((data / "data").rglob("*.parquet")) else None
    kept = Counter(str(episode.origin.get("task")) for episode in dataset.episodes) if dataset else Counter[str]()
    return all(kept[task] >= demos for task in tasks)


def trained_otherwise(run: Path, row: Row) -> str:
    """Return how the finished training in `run` differs from that of `row`, or an empty string."""
    manifest = read_run(run)
    if not manifest or manifest.get("trained") == to_data(row.recipe):
        return ""
    return f"was trained with another configuration than the row {row.name!r} has now"


def evaluation_of(run: Path, episodes: int, seed: int) -> Evaluation | None:
    """Return the complete evaluation in `run` over `episodes` of each task from `seed`, None when there is none."""
    if not (run / "eval" / EVAL_FILE).is_file():
        return None
    evaluation = load_evaluation(run / "eval")
    same_policy = evaluation.manifest.policy_hash == read_run(run).get("result", {}).get("policy_hash")
    if not evaluation.complete or not same_policy or tuple(evaluation.manifest.seeds) != (seed,):
        return None
    return evaluation if all(rate.n == episodes for rate in evaluation.arms[0].tasks.values()) else None


def summarise(
    work: Path, rows: Sequence[Row], *, tasks: Sequence[str], seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the figures of all rows, missing ones named so, and the entries for the top of the document."""
    evaluations: dict[str, Evaluation] = {}
    figures: dict[str, Any] = {}
    for row in rows:
        run = work / row.name
        found = None if trained_otherwise(run, row) else evaluation_of(run, row.episodes, seed)
        if found is not None and tuple(found.arms[0].tasks) == tuple(tasks):
            evaluations[row.name] = found
        figures[row.name] = {**_facts(row), **_measured(run, evaluations.get(row.name))}
    for name, entry in _comparisons(evaluations).items():
        figures[name]["versus_reference"] = entry
    hashes = {str(evaluation.manifest.data_hash) for evaluation in evaluations.values()}
    summary: dict[str, Any] = dict(_headline(figures[MAIN]))
    summary["tasks"] = list(tasks)
    summary["missing"] = [row.name for row in rows if row.name not in evaluations]
    summary["data"] = {**data_facts(work / "data"), "content_hashes": sorted(hashes)}
    return {"rows": figures}, summary


def _facts(row: Row) -> dict[str, Any]:
    train, policy = row.recipe.train, row.recipe.policy
    return {
        "description": DESCRIPTIONS[row.name],
        "cameras": list(row.cameras),
        "steps": train.steps,
        "batch_size": train.batch_size,
        "pred_horizon": policy.pred_horizon,
        "exec_horizon": policy.exec_horizon,
    }


def _measured(run: Path, evaluation: Evaluation | None) -> dict[str, Any]:
    if evaluation is None:
        return {"status": MISSING}
    manifest = read_run(run)
    result = manifest["result"]
    arm = evaluation.arms[0]
    latency = arm.latency
    entry: dict[str, Any] = {
        "status": "measured",
        "measured": evaluation.manifest.date,
        "policy_hash": evaluation.manifest.policy_hash,
        "data_hash": evaluation.manifest.data_hash,
        "precision": result["precision"],
        "stopped": result["status"],
        "parameters": result["parameters"],
        "training_s": results.once(result["elapsed_s"], "s"),
        "loss": results.once(result["loss"], "mean loss since the last line of the log"),
        "mean": results.rate(arm.overall),
        "tasks": {task: results.rate(rate) for task, rate in arm.tasks.items()},
        "inference": {"batch": latency.batch, **_latency(latency.p50_ms, latency.p95_ms, latency.p99_ms)},
    }
    if result["held_out_loss"] is not None:
        entry["held_out_loss"] = results.once(result["held_out_loss"], "loss")
    controls = {name: _control(evaluation, name) for name in CONTROLS if name in evaluation.planned}
    return {**entry, "controls": controls} if controls else entry


def _latency(p50: float, p95: float, p99: float) -> dict[str, Any]:
    return {name: results.once(value, "ms") for name, value in (("p50", p50), ("p95", p95), ("p99", p99))}


def _control(evaluation: Evaluation, name: str) -> dict[str, Any]:
    """Return a control's rates, and its comparison with the policy's own arm on the same initial states."""
    arm = evaluation.arm(name)
    table, adjusted = evaluation.comparisons()[name]
    return {
        "description": arm.description,
        "blind": arm.blind,
        "mean": results.rate(arm.overall),
        "tasks": {task: results.rate(rate) for task, rate in arm.tasks.items()},
        "versus_policy": _table(table, adjusted),
    }


def _table(table: Comparison, adjusted: float) -> dict[str, Any]:
    return {
        "both": table.both,
        "only_first": table.only_first,
        "only_second": table.only_second,
        "neither": table.neither,
        "p_mcnemar_exact": results.once(table.p_value, "p-value", n=table.n),
        "p_holm": results.once(adjusted, "p-value", n=table.n),
    }


def _comparisons(evaluations: dict[str, Evaluation]) -> dict[str, dict[str, Any]]:
    """Return each ablation against the reference (first), over the starts that both played."""
    if REFERENCE not in evaluations:
        return {}
    reference = _outcomes(evaluations[REFERENCE].arms[0])
    tables = {}
    for name, evaluation in evaluations.items():
        if name in (MAIN, REFERENCE):
            continue
        outcomes = _outcomes(evaluation.arms[0])
        common = [start for start in reference if start in outcomes]
        tables[name] = paired([reference[start] for start in common], [outcomes[start] for start in common])
    adjusted = holm([table.p_value for table in tables.values()])
    return {name: _table(table, p) for (name, table), p in zip(tables.items(), adjusted, strict=True)}


def _outcomes(arm: ArmResult) -> dict[Start, bool]:
    return {outcome.trial.start: outcome.success for outcome in arm.outcomes}


def _headline(row: dict[str, Any]) -> dict[str, Any]:
    """Return the main row's mean success, None while it is missing."""
    mean = row.get("mean")
    names = {"mean_success": "value", "mean_success_low": "low", "mean_success_high": "high", "n": "n"}
    return {name: mean[key] if mean else None for name, key in names.items()}


def data_facts(data: Path) -> dict[str, Any]:
    """Return what the recorded dataset says about itself; nothing before it is there."""
    from kinema.data.lerobot.reader import open_dataset

    if not (data / "meta" / "info.json").is_file() or not any((data / "data").rglob("*.parquet")):
        return {}
    dataset = open_dataset(data)
    last = dataset.provenance[-1] if dataset.provenance else {}
    return {
        "content_hash": dataset.content_hash,
        "episodes": len(dataset.episodes),
        "frames": len(dataset),
        "cameras": [camera.name for camera in dataset.spec.observation.cameras],
        "size": dataset.spec.observation.cameras[0].height,
        "noise": last.get("noise"),
        "seed": last.get("seed"),
    }
