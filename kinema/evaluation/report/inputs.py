"""What the report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kinema.core.errors import KinemaError, unknown
from kinema.evaluation.results import Evaluation
from kinema.evaluation.rollout import Trial

LOG_COLUMNS = ("step", "loss", "held_out_loss", "learning_rate", "samples_per_s")


@dataclass(frozen=True, kw_only=True)
class Video:
    """The film of one episode of `arm`, as the bytes of an mp4 file (H.264, so that every browser plays it)."""

    arm: str
    trial: Trial
    mp4: bytes
    success: bool


@dataclass(frozen=True, kw_only=True)
class ActionSamples:
    """Actions of the policy (N, A) and of the demonstrations (M, A), one name and unit per component."""

    policy: np.ndarray
    demonstrations: np.ndarray
    components: tuple[str, ...]
    units: tuple[str, ...]

    def __post_init__(self) -> None:
        width = len(self.components)
        shapes = (np.shape(self.policy)[1:], np.shape(self.demonstrations)[1:])
        if shapes != ((width,), (width,)) or len(self.units) != width:
            raise KinemaError(
                f"{width} components, {len(self.units)} units, but policy actions {np.shape(self.policy)} "
                f"and demonstrations {np.shape(self.demonstrations)}"
            )


@dataclass(frozen=True, kw_only=True)
class ReportInputs:
    """All that goes on the page; an empty part is shown as "not recorded", never left out in silence.

    `training_log` has rows with `step` and any of LOG_COLUMNS; `run` is the content of the training run's `run.json`;
    `command` re-runs the whole thing; `videos` are embedded, failures first, until the page is `size_limit` bytes.
    """

    title: str
    evaluation: Evaluation
    command: str
    run: Mapping[str, Any] = field(default_factory=dict)
    configuration: Mapping[str, Any] = field(default_factory=dict)
    training_log: Sequence[Mapping[str, float | None]] = ()
    videos: Sequence[Video] = ()
    actions: ActionSamples | None = None
    size_limit: int = 20_000_000

    def __post_init__(self) -> None:
        for row in self.training_log:
            for name in row:
                if name not in LOG_COLUMNS:
                    raise unknown("training log column", name, LOG_COLUMNS)
            if row.get("step") is None:
                raise KinemaError(f"training log: a row without step: {dict(row)!r:.120}")
        for video in self.videos:
            starts = {outcome.trial.start for outcome in self.evaluation.arm(video.arm).outcomes}
            if video.trial.start not in starts:
                raise KinemaError(f"video of {video.trial.start}, which arm {video.arm!r} did not try")
