"""`kinema data edit|stats|score|view` from the command line, and what they say to mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kinema.cli.main import main
from kinema.core.episode import Episode
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.data.lerobot.reader import open_dataset
from kinema.data.lerobot.writer import DatasetWriter


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten episodes of two tasks with a small camera; number 7 stands still most of the time."""
    observation = ObservationSpec(
        cameras=(Camera(name="front", height=16, width=16),),
        vectors=(Vector(name="proprioception", components=("x",), units=("m",), frame="world"),),
        instruction=True,
    )
    action = ActionSpec(
        components=("dx",), units=("m",), frame="world", kind="end-effector delta position", integrator="controller",
        low=(-1.0,), high=(1.0,),
    )  # fmt: skip
    spec = RobotSpec(embodiment="tiny", rate_hz=10.0, observation=observation, action=action)
    root = tmp_path_factory.mktemp("cli") / "d"
    writer, rng = DatasetWriter(root, spec), np.random.default_rng(0)
    for index in range(10):
        x = np.sin(np.arange(12) / 4)[:, None] + rng.normal(scale=0.01, size=(12, 1))
        x = np.concatenate([x, np.repeat(x[-1:], 20, axis=0)]) if index == 7 else x
        frames = {
            "image.front": rng.integers(0, 255, (len(x), 16, 16, 3), np.uint8),
            "vector.proprioception": x.astype(np.float32),
            "action": np.gradient(x, axis=0).astype(np.float32),
        }
        writer.append(Episode(instruction=f"task {index % 2}", success=True, frames=frames))
    return root


def _run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main(["data", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_split_merge_and_the_rest(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = tmp_path / "parts"
    code, out, _ = _run(capsys, "edit", "split", root, "--parts", "train=0.8,test=0.2", "--out", parts)
    assert code == 0 and f"{parts}/train: 8 episodes" in out and f"{parts}/test: 2 episodes" in out
    assert f"next: kinema data info {parts}/train" in out
    assert {open_dataset(parts / "test").episodes[i].instruction for i in (0, 1)} == {"task 0", "task 1"}
    merged = tmp_path / "merged"
    assert _run(capsys, "edit", "merge", parts / "train", parts / "test", "--out", merged)[0] == 0
    assert len(open_dataset(merged).episodes) == 10
    assert _run(capsys, "edit", "delete", merged, "--episodes", "0,3-4", "--in-place", "--no-keep")[0] == 0
    assert len(open_dataset(merged).episodes) == 7 and not list(tmp_path.glob("merged.*"))
    assert _run(capsys, "edit", "rename", merged, "--feature", "image.front", "--to", "top", "--in-place")[0] == 0
    np.save(tmp_path / "v.npy", np.ones(len(open_dataset(merged))))
    words = ("--feature", "vector.load", "--components", "f", "--units", "N", "--frame", "tool")
    assert _run(capsys, "edit", "add", merged, "--values", tmp_path / "v.npy", *words, "--in-place")[0] == 0
    words = ("--feature", "vector.proprioception")
    assert _run(capsys, "edit", "remove", merged, *words, "--out", tmp_path / "bare")[0] == 0
    bare = open_dataset(tmp_path / "bare")
    assert bare.spec.observation.keys == ("image.top", "vector.load", "instruction")
    words = ("--task", "task 0", "--to", "open")
    assert _run(capsys, "edit", "retask", bare.root, *words, "--out", tmp_path / "open")[0] == 0
    assert sorted(open_dataset(tmp_path / "open").tasks) == ["open", "task 1"]
    assert _run(capsys, "edit", "reencode", bare.root, "--crf", 30, "--out", tmp_path / "small")[0] == 0
    assert open_dataset(tmp_path / "small").codec.crf == 30


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("delet", "D", "--out", "x"), "unknown operation 'delet'; did you mean 'delete'?"),
        (("delete", "D", "--out", "x"), "delete needs --episodes; --episodes is missing"),
        (("delete", "D", "--episodes", "12", "--out", "x"), "'12' is not within 0-9"),
        (("delete", "D", "--episodes", "a", "--out", "x"), "'a' is neither a number nor a range"),
        (("delete", "D", "--episodes", "1"), "give either --out DIRECTORY or --in-place"),
        (("delete", "D", "--episodes", "1", "--crf", "3", "--out", "x"), "delete has no use for --crf; it takes --epi"),
        (("split", "D", "--parts", "a=0.5,b=3-4", "--out", "x"), "all fractions, or all episodes"),
        (("split", "D", "--parts", "a=0-3,5,b=3-4", "--out", "x"), "episode 3 is in 'a' and in 'b'"),
        (("rename", "D", "--feature", "image.fron", "--to", "top", "--out", "x"), "did you mean 'image.front'?"),
        (("retask", "D", "--task", "task  0", "--to", "y", "--out", "x"), "did you mean 'task 0'?"),
        (("retask", "D", "--episodes", "", "--to", "y", "--out", "x"), "'' is neither a number nor a range"),
        (("delete", "D", "--episodes", "1", "--no-keep", "--out", "x"), "--no-keep is of use with --in-place only"),
        (("split", "D", "--parts", "a=0-3", "--seed", "1", "--out", "x"), "a seed is of use with fractions only"),
        (("merge", "D", "--out", "x"), "1 dataset is given, expected at least 2"),
        (("merge", "D", "D", "--in-place"), "has no place of its own"),
        (("reencode", "D", "--encoder", "libx264-", "--out", "x"), "did you mean 'libx264'?"),
    ],
)
def test_mistakes(
    words: tuple[str, ...], message: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [{"D": root, "x": tmp_path / "x"}.get(word, word) for word in words]
    code, _, err = _run(capsys, "edit", *given)
    assert code == 2 and message in err and len(err.splitlines()) <= 10
    assert list(tmp_path.iterdir()) == []


def test_stats_table_has_units(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capsys, "stats", root, "--json", tmp_path / "s.json")
    assert code == 0 and "vector.proprioception" in out and " m " in out and "q99" in out
    written = json.loads((tmp_path / "s.json").read_text())
    column = open_dataset(root).column("action")
    assert written["action"]["mean"] == column.astype(np.float64).mean(axis=0).tolist()
    words = ("--transform", "copy:copy", "--pred-horizon", 1, "--json", tmp_path / "t.json")
    assert _run(capsys, "stats", root, *words)[0] == 0
    streamed = json.loads((tmp_path / "t.json").read_text())
    assert np.allclose(streamed["action"]["std"], written["action"]["std"], rtol=1e-12)
    assert "expected a Transform or a function" in _run(capsys, "stats", root, "--transform", "math:pi")[2]


def test_score_and_view(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capsys, "score", root, "--out", tmp_path / "bad.json")
    assert code == 1 and "1 of 10 episodes score below 0.5" in out and "--episodes 7" in out
    listed = json.loads((tmp_path / "bad.json").read_text())
    assert listed["episodes"] == [7] and any("idle" in reason for reason in listed["reasons"]["7"])
    assert _run(capsys, "score", root, "--below", 0)[0] == 0
    words = ("--exclusions", tmp_path / "bad.json", "--out", tmp_path / "bad.html")
    code, out, _ = _run(capsys, "view", root, *words)
    page = (tmp_path / "bad.html").read_text()
    assert code == 0 and "1 of 10 episodes" in out and '<section id="e7">' in page and "idle 0." in page
    assert "expected a name that ends in .html" in _run(capsys, "view", root, "--out", tmp_path / "x.txt")[2]
