"""The log and the progress lines."""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path

import pytest

from kinema.core.errors import CheckpointError, UnavailableError
from kinema.train import logging
from kinema.train.logging import JsonlLog, Progress, read_log


def test_lines_beyond_the_resumed_step_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with JsonlLog(path, resume_step=0) as log:
        for step in (1, 2, 3):
            log.write("train", step, loss=1 / 3)
            assert json.loads(path.read_text().splitlines()[-1])["step"] == step
    with open(path, "a") as file:
        file.write('{"kind": "train", "st')
    with JsonlLog(path, resume_step=2) as log:
        log.write("train", 3, loss=0.5)
    assert [(line["step"], line["loss"]) for line in read_log(path)] == [(1, 1 / 3), (2, 1 / 3), (3, 0.5)]
    JsonlLog(path, resume_step=0).close()
    assert read_log(path) == []


def test_a_damaged_log_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(CheckpointError, match=r"log.jsonl, line 2: not JSON: 'nonsense'"):
        read_log(path)
    path.write_text('{"loss": 1}\n')
    with pytest.raises(CheckpointError, match=r"line 1: no line of a training log"):
        read_log(path)


def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"cannot write .*absent/log.jsonl: No such file or directory"):
        JsonlLog(tmp_path / "absent" / "log.jsonl", resume_step=0)
    if Path("/dev/full").exists():
        (tmp_path / "log.jsonl").symlink_to("/dev/full")
        log = JsonlLog.__new__(JsonlLog)
        log.path, log._board, log._file = tmp_path, None, open("/dev/full", "ab", buffering=0)  # noqa: SIM115
        with pytest.raises(UnavailableError, match="No space left on device"):
            log.write("train", 1, loss=1.0)
        log.close()


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is not None, reason="TensorBoard is installed")
def test_tensorboard_that_is_not_installed_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"TensorBoard is not installed: pip install 'kinema\[tensorboard\]'"):
        JsonlLog(tmp_path / "log.jsonl", resume_step=0, tensorboard=True)


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="TensorBoard is not installed")
def test_tensorboard_gets_the_numbers(tmp_path: Path) -> None:
    with JsonlLog(tmp_path / "log.jsonl", resume_step=0, tensorboard=True) as log:
        log.write("train", 1, loss=1.0)
    assert list((tmp_path / "tensorboard").iterdir())


def test_plain_progress_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    shown = Progress(stream, total=100, start=0)
    shown.update(1, {"loss": 0.25, "samples_per_s": 64.0}, 30.0)
    assert stream.getvalue() == ""
    monkeypatch.setattr(logging, "PLAIN_EVERY_S", 0.0)
    shown.update(2, {"loss": 0.25, "samples_per_s": 64.0}, 300.0)
    shown.close()
    assert stream.getvalue() == "step 2/100  loss 0.25  64 samples/s  5 min left\n"


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    shown = Progress(stream, total=100, start=10)
    shown.update(20, {"loss": 0.25, "samples_per_s": 64.0}, 7200.0)
    shown.note("[a line]")
    shown.close()
    assert "20/100" in stream.getvalue() and "loss 0.25" in stream.getvalue() and "2.0 h left" in stream.getvalue()
    assert "[a line]" in stream.getvalue()
    silent = Progress(None, total=1, start=0)
    silent.note("x")
    silent.close()
