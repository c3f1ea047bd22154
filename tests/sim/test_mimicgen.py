"""Generated demonstrations: segments move with their objects, and only what then succeeds is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from kinema.cli.main import main
from kinema.core.episode import Start
from kinema.core.errors import KinemaError
from kinema.data.lerobot.reader import open_dataset
from kinema.data.lerobot.writer import DatasetWriter
from kinema.sim.collect import Collection, attempt
from kinema.sim.mimicgen import MimicGen, Segment, cut, move
from kinema.sim.suites.base import Objects
from kinema.sim.suites.metaworld import MetaWorld

TASK = "pick-place"
OBJECTS = Objects(
    hand=(0, 3), positions={"cup": (3, 6), "goal": (6, 9)}, action_m=0.01, segments={"put": ("cup", "goal")}
)


def pose(rng: np.random.Generator) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.random(random_state=int(rng.integers(1 << 31))).as_matrix()
    matrix[:3, 3] = rng.normal(size=3)
    return matrix


def test_what_moves_the_object_moves_the_segment() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        targets, before, by = np.stack([pose(rng) for _ in range(5)]), pose(rng), pose(rng)
        assert np.abs(move(targets, before, by @ before) - by @ targets).max() < 1e-9
        assert np.abs(move(targets, before, before) - targets).max() < 1e-9


def scripted() -> tuple[np.ndarray, np.ndarray]:
    """A hand that goes 4 cm along x to a cup, then carries it 4 cm along y; a step is 1 cm."""
    hand = np.array(
        [[x, 0, 0] for x in (0.0, 0.01, 0.02, 0.03)] + [[0.04, y, 0] for y in (0.0, 0.01, 0.02, 0.03, 0.04)]
    )
    cup = np.array([[0.04, max(0.0, y), 0.0] for _, y, _ in hand])
    states = np.concatenate([hand, cup, np.tile([0.04, 0.04, 0.0], (len(hand), 1))], axis=1)
    steps = np.diff(hand, axis=0, append=hand[-1:]) / 0.01
    return states, np.concatenate([steps, np.where(np.arange(9)[:, None] < 4, -1.0, 1.0)], axis=1)


def test_a_segment_ends_when_its_object_is_carried() -> None:
    states, actions = scripted()
    first, second = cut("put", states, actions, OBJECTS)
    assert (first.reference, second.reference) == ("cup", "goal")
    assert len(first.targets) == 6, "the cup has moved by more than 1 cm at step 6"
    np.testing.assert_allclose(first.targets[:, :3, 3], states[1:7, :3], atol=1e-12)
    np.testing.assert_allclose(first.pose[:3, 3], [0.04, 0, 0])
    np.testing.assert_allclose(second.pose[:3, 3], [0.04, 0.04, 0])
    assert first.gripper.tolist() == [-1] * 4 + [1] * 2 and second.gripper.tolist() == [1] * 3


def test_an_object_that_never_moves_and_an_unknown_task_are_errors() -> None:
    states, actions = scripted()
    states[:, 3:6] = [0.04, 0.0, 0.0]
    with pytest.raises(KinemaError, match="of 'put' never moves cup"):
        cut("put", states, actions, OBJECTS)
    with pytest.raises(KinemaError, match="unknown task with known segments 'pup'; did you mean 'put'"):
        cut("pup", states, actions, OBJECTS)


@pytest.fixture(scope="module")
def suite() -> MetaWorld:
    return MetaWorld(cameras=(), full_state=True, max_steps=200)


@pytest.fixture(scope="module")
def demonstrations(suite: MetaWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five demonstrations of the benchmark's own expert."""
    root, environment = tmp_path_factory.mktemp("mimicgen") / "source", suite.make()
    plan, episode = Collection(tasks=(TASK,), episodes=5), 0
    writer = DatasetWriter(root, suite.spec)
    while len(writer) < 5:
        tried = attempt(environment, suite, Start(task=TASK, seed=0, episode=episode), plan)
        if tried.episode is not None:
            writer.append(tried.episode)
        episode += 1
    environment.close()
    return root


def segments(root: Path, suite: MetaWorld) -> tuple[tuple[Segment, ...], ...]:
    dataset = open_dataset(root)
    states, actions = dataset.column("vector.full_state").astype(float), dataset.column("action").astype(float)
    rows = [slice(e.start, e.start + e.length) for e in dataset.episodes]
    return tuple(cut(TASK, states[part], actions[part], suite.objects) for part in rows)


def test_moved_segments_succeed_where_replayed_ones_fail(suite: MetaWorld, demonstrations: Path) -> None:
    """The negative control replays the same demonstrations without moving them."""
    moved = MimicGen(suite=suite, demonstrations={TASK: segments(demonstrations, suite)})

    class Replayed(MimicGen):
        def _nearest(self, task: str, state: np.ndarray) -> tuple[Segment, ...]:
            still = [
                (s.reference, state[slice(*suite.objects.positions[s.reference])])
                for s in super()._nearest(task, state)
            ]
            chosen = super()._nearest(task, state)
            poses = [np.block([[np.eye(3), place[:, None]], [np.zeros((1, 3)), 1.0]]) for _, place in still]
            return tuple(replace(s, pose=p) for s, p in zip(chosen, poses, strict=True))

    environment, plan = suite.make(), Collection(tasks=(TASK,), episodes=1)
    starts = [Start(task=TASK, seed=1, episode=number) for number in range(10)]
    made = [attempt(environment, moved, start, plan).episode for start in starts]
    replayed = Replayed(suite=suite, demonstrations=moved.demonstrations)
    control = [attempt(environment, replayed, start, plan).episode for start in starts]
    succeeded, by_chance = sum(e is not None for e in made), sum(e is not None for e in control)
    assert succeeded >= 6 and by_chance <= 3, f"{succeeded} of 10 moved, {by_chance} of 10 only replayed"
    for start, episode in zip(starts, made, strict=True):
        if episode is not None:
            environment.begin(start)
            assert any(environment.step(action) for action in episode.frames["action"]), "what is kept succeeds again"
    environment.close()


def test_the_command_generates_and_goes_on(
    demonstrations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data", "generate", str(demonstrations), "--out", str(tmp_path / "many"), "--workers", "1"]
    assert main([*words, "--episodes", "2"]) == 0
    assert "2 episodes (0 were there)" in capsys.readouterr().out
    assert main([*words, "--episodes", "3"]) == 0
    assert "3 episodes (2 were there)" in capsys.readouterr().out
    dataset = open_dataset(tmp_path / "many")
    assert {episode.origin["seed"] for episode in dataset.episodes} == {1}
    assert dataset.provenance[0]["generator"] == "mimicgen"
    assert dataset.provenance[0]["source"] == open_dataset(demonstrations).content_hash
    assert main([*words, "--seed", "0"]) == 2
    assert "--seed 0 is that of the demonstrations" in capsys.readouterr().err


def test_a_dataset_without_the_state_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite, environment = MetaWorld(cameras=(), max_steps=200), MetaWorld(cameras=()).make()
    tried = attempt(
        environment, suite, Start(task="reach", seed=0, episode=0), Collection(tasks=("reach",), episodes=1)
    )
    assert tried.episode is not None
    DatasetWriter(tmp_path / "plain", suite.spec).append(tried.episode)
    assert main(["data", "generate", str(tmp_path / "plain"), "--out", str(tmp_path / "out")]) == 2
    assert "kinema record metaworld --full-state" in capsys.readouterr().err
