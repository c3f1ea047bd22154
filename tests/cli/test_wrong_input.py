"""Everything that can be given wrongly: an exit code, at most ten lines, the cause, and what to do about it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("pyarrow")
pytest.importorskip("gymnasium")

import torch
from safetensors.torch import load_file, save_file

from kinema.cli.main import main
from kinema.data.lerobot.reader import open_dataset

Ran = Callable[..., "subprocess.CompletedProcess[str]"]
Refused = Callable[..., str]


RECORD = ("record", "metaworld", "--out", "never-made", "--tasks", "reach")
TRAIN = ("train", "metaworld-mt10", "--data", "no-data", "--out", "never-made")
EVAL = ("eval", "no-run", "--suite", "toy:Toy", "--tasks", "both")


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (("recrod",), "unknown command 'recrod'; did you mean 'record'?"),
        (("--hepl",), "unknown option '--hepl'"),
        (("record", "metawrold", *RECORD[2:]), "unknown suite 'metawrold'; did you mean 'metaworld'?"),
        (("record", "toy:Tyo", *RECORD[2:]), "unknown object in toy 'Tyo'; did you mean 'Toy'?"),
        (("record", "toys:Toy", *RECORD[2:]), "cannot import 'toys'"),
        ((*RECORD[:-1], "drawer-opn"), "unknown task 'drawer-opn'; did you mean 'drawer-open'?"),
        ((*RECORD[:-1], "mt11"), "unknown task 'mt11'; did you mean 'mt10'?"),
        ((*RECORD[:-1], "reach,,push"), "--tasks 'reach,,push': expected names separated by commas"),
        ((*RECORD, "--episode", "3"), "unknown option '--episode'; did you mean '--episodes'?"),
        ((*RECORD, "--camera", "corner"), "unknown option '--camera'; did you mean '--cameras'?"),
        ((*RECORD, "--cameras", "corner_tabel"), "camera 'corner_tabel'; did you mean 'corner_table'?"),
        ((*RECORD, "--rendering", "fsat"), "unknown rendering quality 'fsat'; did you mean 'fast'?"),
        ((*RECORD, "--size", "8"), "size 8 (16 to 2048 px)"),
        ((*RECORD, "--size", "big"), "big"),
        ((*RECORD, "--episodes", "0"), "--episodes 0"),
        ((*RECORD, "--episodes", "3", "--episodes", "4"), "option '--episodes' is given twice"),
        ((*RECORD, "--noise=-1"), "--noise -1"),
        ((*RECORD, "--workers", "0"), "--workers 0"),
        (("record", "metaworld", "--tasks", "reach"), "--out"),
        (("train", "metaworld-mt1", *TRAIN[2:]), "unknown recipe 'metaworld-mt1'; did you mean 'metaworld-mt10'?"),
        ((*TRAIN, "--policy.widht", "3"), "unknown option '--policy.widht'; did you mean '--policy.width'?"),
        ((*TRAIN, "--train.steps", "0"), "steps: 0 is below 1"),
        ((*TRAIN, "--train.steps", "many"), "many"),
        ((*TRAIN, "--train.precision", "fp61"), "unknown precision 'fp61'"),
        ((*TRAIN, "--policy.exec-horizon", "99"), "1 <= exec <= pred"),
        ((*TRAIN, "--data.held-out-fraction", "1.5"), "held_out_fraction 1.5"),
        ((*TRAIN, "--device", "cdua"), "unknown --device 'cdua'; did you mean 'cuda'?"),
        ((*TRAIN, "--device", "cuda:99"), "--device 'cuda:99' cannot be used here"),
        (TRAIN, "no-data is not a dataset: no such directory"),
        (TRAIN[:2], "--data is missing"),
        (("train", "toy:tiny", "--data", "no-data"), "--out is missing"),
        (("eval", "no-run", "--suite", "metawrold"), "unknown suite 'metawrold'; did you mean 'metaworld'?"),
        ((*EVAL[:-1], "bth"), "unknown task 'bth'; did you mean 'both'?"),
        ((*EVAL, "--paus-s", "1"), "unknown option '--paus-s'; did you mean '--pause-s'?"),
        ((*EVAL, "--episodes", "0"), "--episodes 0"),
        ((*EVAL, "--envs", "0"), "--envs 0"),
        ((*EVAL, "--controls=-1"), "--controls -1"),
        (EVAL, "no-run is no run directory: it has no policy.json\nfix: "),
        (("report", "no-run"), "no-run has no evaluation\nfix: kinema eval no-run"),
        (("info", "no-run"), "no directory 'no-run'"),
    ],
    ids=lambda value: " ".join(value)[:70] if isinstance(value, tuple) else "",
)
def test_the_cause_and_the_nearest_match_are_named(
    arguments: tuple[str, ...], cause: str, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    error = refused(*arguments)
    assert error.startswith("error: ") and cause in error
    assert list(tmp_path.iterdir()) == [], "nothing is made for a command that is wrong"


# Data that does not fit.


def test_a_camera_that_the_dataset_lacks(refused: Refused, toy_data: Path, tmp_path: Path) -> None:
    camera = ("--policy.encoders.front.camera", "frnt")
    error = refused("train", "toy:tiny", "--data", toy_data, "--out", tmp_path / "run", *camera)
    assert "no observation 'image.frnt'; did you mean 'image.front'" in error
    assert not (tmp_path / "run").exists()


def test_recording_another_robot_or_seed_into_a_dataset(refused: Refused, toy_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(toy_data, data)
    record = ("record", "toy:Toy", "--tasks", "both", "--episodes", 2, "--out", data)
    error = refused(*record, "--embodiment", "other")
    assert f"{data} was recorded with embodiment toy, not other" in error
    assert f"{data} was recorded with seed 0, not 7\nfix: give that --seed" in refused(*record, "--seed", 7)
    assert open_dataset(data).content_hash == open_dataset(toy_data).content_hash


def test_a_policy_of_another_robot(refused: Refused, toy_run: Path) -> None:
    error = refused("eval", toy_run, "--suite", "toy:Toy", "--tasks", "both", "--embodiment", "other")
    assert f"the suite 'toy:Toy' does not fit the policy of {toy_run}" in error
    assert "embodiment: 'other', expected 'toy'" in error
    pytest.importorskip("metaworld")
    error = refused("eval", toy_run, "--suite", "metaworld", "--tasks", "reach")
    assert "Meta-World has no camera 'front'" in error


def test_going_on_with_another_configuration_or_dataset(
    run: Ran, refused: Refused, toy_run: Path, toy_data: Path, tmp_path: Path
) -> None:
    train = ("train", "toy:tiny", "--out", toy_run)
    before = {path: path.read_bytes() for path in toy_run.rglob("*") if path.is_file()}
    error = refused(*train, "--data", toy_data, "--train.batch-size", 3)
    assert "batch_size: 3, but the checkpoint has 2" in error and "another run directory" in error
    assert "policy.width: 16, but the checkpoint has 8" in refused(*train, "--data", toy_data, "--policy.width", 16)
    assert "random_shift: 1, before 0" in refused(*train, "--data", toy_data, "--data.random-shift", 1)
    other = tmp_path / "other"
    record = ("record", "toy:Toy", "--tasks", "both", "--episodes", 2, "--out", other, "--seed", 5)
    assert run(*record).returncode == 0
    assert "content_hash: " in refused(*train, "--data", other)
    assert {path: path.read_bytes() for path in toy_run.rglob("*") if path.is_file()} == before


# Run directories that are damaged or foreign.


@pytest.fixture
def damaged(toy_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, for a test to damage."""
    place = tmp_path / "run"
    shutil.copytree(toy_run, place)
    return place


def evaluated(place: Path) -> tuple[object, ...]:
    return ("eval", place, "--suite", "toy:Toy", "--tasks", "both", "--episodes", 1, "--controls", 0, "--envs", 1)


def changed_weights(place: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(place / "weights.safetensors")
    change(tensors)
    save_file(tensors, place / "weights.safetensors")


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda tensors: tensors.pop("trunk.mix.bias"), "missing 'trunk.mix.bias'"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "not expected 'extra'"),
        (
            lambda tensors: tensors.update({"trunk.mix.bais": tensors.pop("trunk.mix.bias")}),
            "missing 'trunk.mix.bias'; the file has 'trunk.mix.bais'",
        ),
        (lambda tensors: tensors.update({"trunk.mix.bias": torch.zeros(3)}), "is float32 (3,), expected float32 (8,)"),
    ],
    ids=["missing", "extra", "renamed", "shape"],
)
def test_weights_that_do_not_fit(
    change: Callable[[dict[str, torch.Tensor]], object], cause: str, refused: Refused, damaged: Path
) -> None:
    changed_weights(damaged, change)
    error = refused(*evaluated(damaged))
    assert f"{damaged / 'weights.safetensors'} does not fit" in error and cause in error


PICKLE = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0atouch owned\x85R."
"""What a pickle holds that runs `touch owned` when it is read."""


@pytest.mark.parametrize("content", [PICKLE, b"", b"\x00" * 4096], ids=["pickle", "empty", "zeros"])
def test_a_foreign_weights_file(
    content: bytes, refused: Refused, damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(damaged)
    (damaged / "weights.safetensors").write_bytes(content)
    assert "is truncated or no safetensors file" in refused(*evaluated(damaged))
    assert not (damaged / "owned").exists()


def test_a_truncated_weights_file(refused: Refused, damaged: Path) -> None:
    whole = (damaged / "weights.safetensors").read_bytes()
    (damaged / "weights.safetensors").write_bytes(whole[: len(whole) // 2])
    error = refused(*evaluated(damaged))
    assert f"({len(whole) // 2} bytes) is truncated" in error


def test_a_truncated_checkpoint_says_how_to_go_on(refused: Refused, damaged: Path, toy_data: Path) -> None:
    *_, newest = sorted((damaged / "checkpoints").iterdir())
    path = newest / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    error = refused("train", "toy:tiny", "--data", toy_data, "--out", damaged)
    assert f"{path} (100 bytes) is truncated" in error
    assert f"delete {newest} to go on" in error
    shutil.rmtree(newest)
    assert main(["train", "toy:tiny", "--data", str(toy_data), "--out", str(damaged)]) == 0


@pytest.mark.parametrize("kind", ["os:system", "builtins:eval", "toy:Toy", "kinema.core.spec:Camera"])
def test_a_policy_file_that_names_another_class(kind: str, refused: Refused, damaged: Path) -> None:
    path = damaged / "policy.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "type": kind}))
    error = refused(*evaluated(damaged))
    assert str(path) in error
    assert f"refusing to load '{kind}': only classes of kinema are trusted" in error or "unknown field" in error


@pytest.mark.parametrize("name", ["policy.json", "run.json"])
@pytest.mark.parametrize("content", ["{", "[]", "\x00"])
def test_a_damaged_description(name: str, content: str, refused: Refused, damaged: Path, toy_data: Path) -> None:
    (damaged / name).write_text(content)
    assert name in refused(*evaluated(damaged))
    if name == "policy.json":
        assert name in refused("train", "toy:tiny", "--data", toy_data, "--out", damaged)


def test_a_run_without_weights(refused: Refused, damaged: Path) -> None:
    (damaged / "weights.safetensors").unlink()
    assert "training has not finished\nfix: run the same `kinema train` command again" in refused(*evaluated(damaged))


def test_another_evaluation_is_not_mixed_with_the_first(run: Ran, refused: Refused, damaged: Path) -> None:
    assert run(*evaluated(damaged)).returncode == 0
    before = (damaged / "eval" / "eval.json").read_bytes()
    error = refused(*evaluated(damaged), "--seed", 7)
    assert "holds another evaluation (seeds" in error
    assert f"fix: rename or delete {damaged / 'eval'}" in error
    assert "max_steps: 9, before 30" in refused(*evaluated(damaged), "--max-steps", 9)
    assert (damaged / "eval" / "eval.json").read_bytes() == before
