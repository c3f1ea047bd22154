"""Ctrl-C at every stage, sent to the whole process group as a terminal does: a short goodbye, and nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("pyarrow")
pytest.importorskip("gymnasium")

PATIENCE_S = 600.0
Started = Callable[..., "subprocess.Popen[str]"]
Ran = Callable[..., "subprocess.CompletedProcess[str]"]


def interrupted(process: subprocess.Popen[str], when: Callable[[], bool]) -> str:
    """Send Ctrl-C to the group of `process` as soon as `when` holds; returns what it said at the end."""
    deadline = time.monotonic() + PATIENCE_S
    while not when():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    assert "Traceback" not in err and "KeyboardInterrupt" not in err
    *_, last = err.splitlines()
    assert last.startswith("interrupted")
    assert err.count("interrupted") == 1 and len(err.splitlines()) <= 10
    return last


def children(process: subprocess.Popen[str]) -> int:
    """Return how many worker processes `process` has."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    workers = 0
    for child in path.read_text().split() if path.exists() else ():
        command = Path(f"/proc/{child}/cmdline")
        workers += "spawn_main" in command.read_text() if command.exists() else 0
    return workers


def episodes(data: Path) -> int:
    path = data / "meta" / "info.json"
    return json.loads(path.read_text())["total_episodes"] if path.exists() else -1


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def record(data: Path, *options: object) -> list[object]:
    return ["record", "toy:Toy", "--tasks", "both", "--episodes", 3, "--out", data, "--workers", 2, *options]


def test_recording_goes_on_with_the_next_episode(start: Started, run: Ran, tmp_path: Path) -> None:
    data = tmp_path / "data"
    slow = record(data, "--pause-s", 0.02)
    said = interrupted(start(*slow), lambda: episodes(data) >= 1)
    assert said.endswith("kinema " + " ".join(map(str, slow)))
    kept = episodes(data)
    assert 1 <= kept < 6
    before = content(data / "data")
    ended = run(*slow)
    assert ended.returncode == 0, ended.stderr
    assert f"6 episodes ({kept} were there)" in ended.stdout and episodes(data) == 6
    assert before.items() <= content(data / "data").items(), "what was committed is what it was"
    assert run(*record(tmp_path / "whole", "--pause-s", 0.02)).returncode == 0
    assert content(data / "data") == content(tmp_path / "whole" / "data"), "the interruption left no trace"


def test_workers_that_still_start_say_nothing(start: Started, run: Ran, tmp_path: Path) -> None:
    data = tmp_path / "data"
    process = start(*record(data))
    interrupted(process, lambda: children(process) >= 1)
    assert episodes(data) <= 3
    assert run(*record(data)).returncode == 0
    assert episodes(data) == 6


def steps(run_directory: Path) -> int:
    path = run_directory / "log.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return sum('"kind": "train"' in line for line in lines)


def test_training_goes_on_with_the_next_step(start: Started, run: Ran, toy_data: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "run", tmp_path / "whole"

    def train(place: Path) -> list[object]:
        return ["train", "toy:tiny", "--data", toy_data, "--out", place, "--train.steps", 400]

    said = interrupted(start(*train(out)), lambda: steps(out) >= 3)
    assert said.startswith("interrupted after step ")
    assert not (out / "weights.safetensors").exists()
    evaluation = run("eval", out, "--suite", "toy:Toy", "--tasks", "both")
    assert evaluation.returncode == 2 and "training has not finished" in evaluation.stderr
    ended = run(*train(out))
    assert ended.returncode == 0, ended.stderr
    assert "resuming at step" in ended.stderr
    assert run(*train(whole)).returncode == 0
    assert (out / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()


def evaluation(run_directory: Path, *options: object) -> list[object]:
    tasks = ["--suite", "toy:Toy", "--tasks", "both", "--episodes", 2, "--controls", 1, "--envs", 2]
    return ["eval", run_directory, *tasks, *options]


def arms(run_directory: Path) -> list[dict[str, object]]:
    path = run_directory / "eval" / "eval.json"
    return json.loads(path.read_text())["arms"] if path.exists() else []


def copied(toy_run: Path, place: Path) -> Path:
    place.mkdir()
    for name in ("policy.json", "weights.safetensors", "run.json", "log.jsonl"):
        (place / name).write_bytes((toy_run / name).read_bytes())
    return place


def test_evaluation_goes_on_with_the_next_arm(start: Started, run: Ran, toy_run: Path, tmp_path: Path) -> None:
    out = copied(toy_run, tmp_path / "run")
    slow = evaluation(out, "--pause-s", 0.02)
    interrupted(start(*slow), lambda: len(arms(out)) >= 1)
    before = arms(out)
    assert 1 <= len(before) < 4
    ended = run(*slow)
    assert ended.returncode == 0, ended.stderr
    after = arms(out)
    assert [arm["name"] for arm in after] == ["policy", "held-out-words", "blind-camera", "wrong-instruction"]
    for old, new in zip(before, after, strict=False):
        assert old["trials"] == new["trials"] and old["latency"] == new["latency"], "finished arms are not run again"
    assert (out / "report.html").is_file()


def test_simulators_that_still_start_say_nothing(start: Started, run: Ran, toy_run: Path, tmp_path: Path) -> None:
    out = copied(toy_run, tmp_path / "run")
    slow = evaluation(out, "--start-s", 0.5)
    process = start(*slow)
    interrupted(process, lambda: children(process) >= 1)
    assert arms(out) == []
    assert run(*slow).returncode == 0
    assert len(arms(out)) == 4


def test_a_comparison_goes_on_with_the_next_pairs(start: Started, run: Ran, toy_run: Path, tmp_path: Path) -> None:
    other, out = copied(toy_run, tmp_path / "other"), tmp_path / "out"
    text = (other / "policy.json").read_text("utf-8")
    assert '"exec_horizon": 2' in text
    (other / "policy.json").write_text(text.replace('"exec_horizon": 2', '"exec_horizon": 1'), "utf-8")
    tasks = ("--suite", "toy:Toy", "--tasks", "both", "--envs", 1, "--n-max", 8, "--test", "lai", "--pause-s", 0.01)
    command = ("compare", toy_run, other, "--out", out, *tasks)
    path = out / "pairs.json"
    interrupted(start(*command), path.exists)
    before = json.loads(path.read_text())["pairs"]
    assert 1 <= len(before) < 8
    ended = run(*command)
    assert ended.returncode == 0, ended.stderr
    after = json.loads(path.read_text())["pairs"]
    assert len(after) == 8 and after[: len(before)] == before
    assert ended.stdout.startswith("run and other: not distinguishable\n") or " is better than " in ended.stdout
