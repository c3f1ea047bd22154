"""How good each episode of a dataset is as a demonstration: measured in parts, judged by thresholds, worst part first.

A part's score is threshold / (threshold + value): 1 for a value of 0, 0.5 where the value is the threshold. An
episode's score is that of its worst part, so below 0.5 means that a threshold is exceeded. Parts that compare do so
with the episodes of the same task: what is slow or rough for one task is usual for another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from kinema.core.errors import KinemaError
from kinema.core.rng import generator
from kinema.core.spec import ACTION, Vector
from kinema.data import measures
from kinema.data.lerobot.reader import Dataset, EpisodeRecord

_OBJECTS = "vector.full_state"


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Values of each part above which an episode is not good enough."""

    length: float = 1.5
    """doublings or halvings of the task's median length"""
    idle: float = 0.5
    """share of steps in which nothing moves"""
    jerk: float = 3.0
    """times the task's median of root mean square jerk"""
    chatter: float = 3.0
    """gripper reversals more than the task's median"""
    jump: float = 0.05
    """metres by which one step exceeds the episode's usual fast ones"""
    outliers: float = 0.15
    """share of actions whose norm is more than 2.5 deviations from its task's mean"""
    saturation: float = 0.5
    """share of actions at a bound, more than the task's median"""
    strange: float = 1.75
    """times the task's median distance from the other episodes' states and actions"""

    def __post_init__(self) -> None:
        for f in fields(self):
            if not getattr(self, f.name) > 0:
                raise KinemaError(f"threshold {f.name} {getattr(self, f.name)}: expected more than 0")


PARTS = tuple(f.name for f in fields(Thresholds))
_SIGMA = 2.5


@dataclass(frozen=True, kw_only=True)
class EpisodeScore:
    """An episode's measured value of each part, its score from 0 to 1, and why it is below 0.5."""

    index: int
    values: Mapping[str, float]
    jerk_si: float
    """root mean square jerk [m/s^3, or the unit of the first vector or action per s^3]"""
    score: float
    reasons: tuple[str, ...]


def score(dataset: Dataset, thresholds: Thresholds | None = None) -> tuple[EpisodeScore, ...]:
    """Return the score of every episode, in the order of the dataset; vectors and actions alone are looked at."""
    limits = thresholds or Thresholds()
    raw = _measured(dataset)
    tasks: dict[str, list[int]] = {}
    for record in dataset.episodes:
        tasks.setdefault(_task(record), []).append(record.index)
    values: list[dict[str, float]] = [{} for _ in dataset.episodes]
    for task, members in tasks.items():
        strange = measures.strangeness([raw[i]["path"] for i in members], generator("quality", task))
        norms = np.concatenate([raw[i]["norms"] for i in members])
        for at, index in enumerate(members):
            mine, others = raw[index], [raw[i] for i in members]
            values[index] = {
                "length": abs(float(np.log2(mine["length"] / _median(others, "length")))),
                "idle": mine["idle"],
                "jerk": max(_ratio(mine[name], _median(others, name)) for name in ("jerk", "action_jerk")),
                "chatter": max(0.0, mine["reversals"] - _median(others, "reversals")),
                "jump": mine["jump"],
                "outliers": measures.outlying(mine["norms"], float(norms.mean()), float(norms.std()), _SIGMA),
                "saturation": max(0.0, mine["saturation"] - _median(others, "saturation")),
                "strange": _ratio(strange[at], float(np.median(strange))),
            }
    return tuple(_judged(index, entry, raw[index]["jerk"], limits) for index, entry in enumerate(values))


def exclusions(dataset: Dataset, scores: Sequence[EpisodeScore], below: float = 0.5) -> dict[str, Any]:
    """Return the list of episodes whose score is below `below`, as plain data that training accepts."""
    bad = [one for one in scores if one.score < below]
    return {
        "dataset": dataset.content_hash,
        "episodes": [one.index for one in bad],
        "reasons": {str(one.index): list(one.reasons) or [f"score {one.score:.2f} below {below:g}"] for one in bad},
    }


def _measured(dataset: Dataset) -> list[dict[str, Any]]:
    """Return the measures of each episode before they are compared."""
    spec, action = dataset.spec.action, dataset.column(ACTION)
    grippers = [i for i, name in enumerate(spec.components) if spec.gripper is not None and "gripper" in name]
    moving = [i for i in range(spec.width) if i not in grippers]
    pose, position = _pose(dataset)
    fast = np.quantile(np.abs(_steps(pose, dataset)), 0.95, axis=0)
    scaled = action / np.where(action.std(axis=0) > 0, action.std(axis=0), 1)
    norms = np.linalg.norm(scaled, axis=1)
    path = np.concatenate([_standard(dataset.column(v.key)) for v in dataset.spec.observation.vectors]
                          + [_standard(action)], axis=1)  # fmt: skip
    found = []
    for record in dataset.episodes:
        rows = slice(record.start, record.start + record.length)
        smooth = position[rows] if position.shape[1] else pose[rows]
        reversals = [measures.reversals(action[rows, i], spec.low[i], spec.high[i]) for i in grippers]
        found.append(
            {
                "length": record.length,
                "idle": measures.idle(pose[rows], fast),
                "jerk": measures.jerk(smooth, dataset.spec.rate_hz),
                "action_jerk": measures.jerk(scaled[rows][:, moving], dataset.spec.rate_hz),
                "reversals": sum(reversals),
                "jump": measures.jump(position[rows]) if position.shape[1] else 0.0,
                "norms": norms[rows],
                "saturation": measures.saturated(action[rows], spec, moving),
                "path": path[rows],
            }
        )
    return found


def _pose(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the robot's own components (N, D), the action where there are none, and those in metres (N, M)."""
    own = [vector for vector in dataset.spec.observation.vectors if vector.key != _OBJECTS]
    pose = [dataset.column(vector.key) for vector in own] or [dataset.column(ACTION)]
    metres = [column for vector in own for column in _metres(dataset, vector)]
    return np.concatenate(pose, axis=1), np.stack(metres, axis=1) if metres else np.empty((len(dataset), 0))


def _metres(dataset: Dataset, vector: Vector) -> list[np.ndarray]:
    columns = dataset.column(vector.key)
    return [
        columns[:, i] * np.float64(measures.METRES[unit])
        for i, unit in enumerate(vector.units)
        if unit in measures.METRES
    ]


def _steps(values: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Return the differences of rows that follow each other within an episode."""
    inside = np.ones(len(values) - 1, bool)
    inside[[record.start - 1 for record in dataset.episodes[1:]]] = False
    steps = np.diff(values, axis=0)[inside]
    return steps if len(steps) else np.zeros((1, values.shape[1]))


def _standard(values: np.ndarray) -> np.ndarray:
    std = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(std > 1e-6, std, 1) / np.sqrt(values.shape[1])


def _judged(index: int, values: Mapping[str, float], jerk_si: float, limits: Thresholds) -> EpisodeScore:
    scores = {name: getattr(limits, name) / (getattr(limits, name) + value) for name, value in values.items()}
    worst = sorted((s, name) for name, s in scores.items() if s < 0.5)
    reasons = tuple(f"{name} {values[name]:.3g} above {getattr(limits, name):g}" for _, name in worst)
    return EpisodeScore(index=index, values=values, jerk_si=jerk_si, score=min(scores.values()), reasons=reasons)


def _task(record: EpisodeRecord) -> str:
    return str(record.origin.get("task", record.instruction))


def _median(entries: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(np.median([entry[name] for entry in entries]))


def _ratio(value: float, usual: float) -> float:
    """Return value / usual; where nothing is usual, 1 for nothing and otherwise without bound."""
    if usual > 0:
        return float(value / usual)
    return 1.0 if value == 0 else 1e6
