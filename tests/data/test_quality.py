"""Quality scores: each measure by hand, and corrupted demonstrations ranked below clean ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata

from kinema.core.episode import Episode
from kinema.core.errors import KinemaError
from kinema.core.spec import ActionSpec, ObservationSpec, RobotSpec, Vector
from kinema.data import measures
from kinema.data.exclude import excluded_episodes
from kinema.data.lerobot.reader import Dataset, open_dataset
from kinema.data.lerobot.writer import DatasetWriter
from kinema.data.quality import PARTS, Thresholds, exclusions, score

ACTION = ActionSpec(
    components=("dx", "dy", "gripper"), units=("cm", "cm", "effort"), frame="world",
    kind="end-effector delta position", integrator="controller", low=(-1.0, -1.0, -1.0), high=(1.0, 1.0, 1.0),
    gripper="+1 closes, -1 opens",
)  # fmt: skip
SPEC = RobotSpec(
    embodiment="reacher",
    rate_hz=10.0,
    observation=ObservationSpec(
        vectors=(Vector(name="proprioception", components=("x", "y"), units=("m", "m"), frame="world"),),
        instruction=True,
    ),
    action=ACTION,
)
GOALS = {"left": (-0.2, 0.2), "right": (0.2, 0.2)}


def _reach(task: str, kind: str, index: int, rng: np.random.Generator) -> Episode:
    """Walk to the task's goal and close the gripper; `kind` says how it is spoiled."""
    told = task
    if kind == "wrong goal":
        task = {"left": "right", "right": "left"}[task]
    goal = np.array(GOALS[task]) + rng.normal(scale=0.01, size=2)
    at, poses, actions = rng.normal(scale=0.02, size=2), [], []
    pause = rng.integers(5, 20) if kind == "idle" else -1
    while np.linalg.norm(goal - at) > 0.005 and len(poses) < 400:
        if len(poses) == pause:
            poses += [at] * 60
            actions += [np.array([0, 0, -1.0])] * 60
            pause = -1
        # A proportional controller with the small unsteadiness of a person.
        move = np.clip((goal - at) * 20, -0.8, 0.8) + rng.normal(scale=0.02, size=2)
        if kind == "jerky":
            move = np.clip(move + rng.normal(scale=0.6, size=2), -1, 1)
        poses.append(at)
        actions.append(np.array([*move, -1.0]))
        at = at + move * 0.01
    poses += [at] * 3
    actions += [np.array([0, 0, 1.0])] * 3
    frames = {
        "vector.proprioception": np.array(poses, np.float32),
        "action": np.clip(actions, -1, 1).astype(np.float32),
    }
    return Episode(instruction=f"go {told}", success=True, origin={"task": told, "episode": index}, frames=frames)


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, np.ndarray]:
    """60 demonstrations of two tasks, of which 30 % are spoiled, a third in each way."""
    rng = np.random.default_rng(0)
    kinds = np.array(["idle", "jerky", "wrong goal"] * 6 + ["clean"] * 42)[rng.permutation(60)]
    root = tmp_path_factory.mktemp("spoiled") / "d"
    writer = DatasetWriter(root, SPEC)
    for index, kind in enumerate(kinds):
        writer.append(_reach(("left", "right")[index % 2], kind, index, rng))
    return open_dataset(root), kinds


def _auc(scores: np.ndarray, bad: np.ndarray) -> float:
    """Return the probability that a bad one scores below a good one (Mann-Whitney)."""
    ranks, n = rankdata(-scores), int(bad.sum())
    return float((ranks[bad].sum() - n * (n + 1) / 2) / (n * (len(bad) - n)))


def test_corrupted_demonstrations_score_below_clean_ones(spoiled: tuple[Dataset, np.ndarray]) -> None:
    dataset, kinds = spoiled
    found = score(dataset)
    scores = np.array([one.score for one in found])
    assert _auc(scores, kinds != "clean") >= 0.95
    for kind in ("idle", "jerky", "wrong goal"):
        chosen = (kinds == kind) | (kinds == "clean")
        assert _auc(scores[chosen], kinds[chosen] != "clean") >= 0.9, kind
    assert np.mean(scores[kinds == "clean"] < 0.5) <= 0.05
    assert np.mean(scores[kinds != "clean"] < 0.5) >= 0.8
    assert all(set(one.values) == set(PARTS) and 0 <= one.score <= 1 for one in found)
    assert all(bool(one.reasons) == (one.score < 0.5) for one in found)
    assert [one.score for one in score(dataset)] == scores.tolist()


def test_exclusion_list_is_what_training_takes(spoiled: tuple[Dataset, np.ndarray], tmp_path: Path) -> None:
    dataset, _ = spoiled
    found = score(dataset)
    listed = exclusions(dataset, found)
    (tmp_path / "bad.json").write_text(json.dumps(listed))
    (episodes,) = excluded_episodes([tmp_path / "bad.json"], [dataset])
    assert episodes == {one.index for one in found if one.score < 0.5} == set(listed["episodes"])
    first = found[listed["episodes"][0]]
    assert listed["reasons"][str(first.index)] == list(first.reasons)
    assert " above " in first.reasons[0]
    stricter = exclusions(dataset, found, below=0.99)
    assert all(lines and lines[0] for lines in stricter["reasons"].values())


def test_thresholds_are_where_the_score_is_one_half(spoiled: tuple[Dataset, np.ndarray]) -> None:
    dataset, _ = spoiled
    value = score(dataset)[0].values["strange"]
    wide = dict.fromkeys(PARTS, 1000000000.0)
    assert score(dataset, Thresholds(**{**wide, "strange": value}))[0].score == pytest.approx(0.5)
    with pytest.raises(KinemaError, match=r"threshold idle -1: expected more than 0"):
        Thresholds(idle=-1)


def test_measures_by_hand() -> None:
    time = np.arange(6) / 10
    assert measures.jerk(time[:, None] ** 3, 10.0) == pytest.approx(6.0)
    assert measures.jerk(time[:, None] ** 2, 10.0) == pytest.approx(0.0, abs=1e-9)
    assert measures.idle(np.array([[0.0], [0.0], [1.0], [1.04]]), np.array([1.0])) == pytest.approx(2 / 3)
    steady = np.linspace(0, 1, 30)[:, None]
    assert measures.jump(steady) == pytest.approx(0, abs=1e-9)
    assert measures.jump(steady + 0.2 * (np.arange(30) >= 15)[:, None]) == pytest.approx(0.2, abs=0.01)
    assert measures.reversals(np.array([-1, -1, 0.05, 1, 0, 1, -1.0]), -1, 1) == 2
    assert measures.outlying(np.array([0.0, 3.0, -2.0]), 0.0, 1.0, 2.5) == pytest.approx(1 / 3)
    assert measures.outlying(np.ones(3), 1.0, 0.0, 2.5) == 0
    assert measures.saturated(np.array([[1, 0, 1], [0, 0, 1], [0, -1, 1], [0.5, 0, 1]]), ACTION, (0, 1)) == 0.5


def test_strangeness_by_hand() -> None:
    paths = [np.full((4, 1), value) for value in (0.0, 1.0, 3.0)]
    found = measures.strangeness(paths, np.random.default_rng(0))
    assert found.tolist() == [2.0, 1.5, 2.5]


def test_one_step_and_one_episode(tmp_path: Path) -> None:
    frames = {"vector.proprioception": np.zeros((1, 2), np.float32), "action": np.zeros((1, 3), np.float32)}
    episode = Episode(instruction="stay", success=True, frames=frames)
    DatasetWriter(tmp_path / "d", SPEC).append(episode)
    (only,) = score(open_dataset(tmp_path / "d"))
    assert only.score > 0.5 and all(np.isfinite(value) for value in only.values.values())
    bare = replace(SPEC, observation=ObservationSpec(instruction=True))
    DatasetWriter(tmp_path / "e", bare).append(replace(episode, frames={"action": frames["action"]}))
    assert len(score(open_dataset(tmp_path / "e"))) == 1
