"""Films of evaluated episodes, made afterwards by replaying the executed actions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinema.core.errors import KinemaError

if TYPE_CHECKING:
    from kinema.evaluation.results import Evaluation, Outcome

SIZE = 224
RATE_HZ = 20.0


def film(directory: Path, suite: Any, evaluation: Evaluation) -> None:
    """Write the films of the main arm's first failures and successes to `directory`/videos; those there stay."""
    from kinema.core.files import write_bytes
    from kinema.data.video import encode_mp4_bytes
    from kinema.evaluation.storage import action_key, load_actions

    videos = directory / "videos"
    videos.mkdir(exist_ok=True)
    arm = evaluation.arms[0]
    paths = {index: videos / f"{arm.name}-{index:05d}.mp4" for index in chosen(arm.outcomes)}
    missing = {index: path for index, path in paths.items() if not path.exists()}
    if not missing:
        return
    actions = load_actions(directory)
    environment = suite.make()
    every = max(1, round(suite.spec.rate_hz / RATE_HZ))
    try:
        for index, path in missing.items():
            frames = _replayed(environment, arm.outcomes[index], actions[action_key(arm.name, index)], every)
            write_bytes(path, encode_mp4_bytes(frames, suite.spec.rate_hz / every))
    finally:
        environment.close()


def _replayed(environment: Any, outcome: Outcome, actions: Any, every: int) -> Any:
    from kinema.sim.replay import replay

    frames, success = replay(environment, outcome.trial.start, actions, size=SIZE, every=every)
    if success != outcome.success:
        raise KinemaError(
            f"{outcome.trial.start} ended with success {outcome.success}, its replay with {success}; "
            "the simulator is not deterministic here, so films would not show what was counted"
        )
    return frames


def chosen(outcomes: Sequence[Outcome], failures: int = 3, successes: int = 2) -> list[int]:
    """Return the trials to film: the first few failures and successes of every task."""
    left: dict[tuple[str, bool], int] = {}
    picked = []
    for index, outcome in enumerate(outcomes):
        key = (outcome.trial.start.task, outcome.success)
        left.setdefault(key, successes if outcome.success else failures)
        if left[key] > 0:
            left[key] -= 1
            picked.append(index)
    return picked
