"""The loop as a whole: exact resumption, clean ends, nothing saved over what is good."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from kinema.core.errors import KinemaError
from kinema.core.rng import seed_of
from kinema.train import checkpoint
from kinema.train.logging import read_log
from kinema.train.loop import fit
from kinema.train.optim import OptimConfig, learning_rate_at
from kinema.train.weights import load_weights, read_tensors

SCRIPT = Path(__file__).with_name("tiny_training.py")
ROOT = Path(__file__).parents[2]
EXACT = ("kind", "step", "loss", "grad_norm", "learning_rate")


def numbers(run: Path) -> list[tuple[str, ...]]:
    """The lines of a log that must be the same, floats as they are written."""
    lines = [line for line in read_log(run / "log.jsonl") if line["kind"] in ("train", "held_out")]
    return [tuple(repr(line.get(name)) for name in EXACT) for line in lines]


def same_tensors(first: Path, second: Path) -> bool:
    a, b = read_tensors(first), read_tensors(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def start(run: Path, step_s: float) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), str(run), str(step_s)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_step(run: Path, step: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        log = run / "log.jsonl"
        if log.exists() and max((line["step"] for line in read_log(log)), default=0) >= step:
            return
        time.sleep(0.002)
    pytest.fail(f"step {step} was never logged: {process.communicate()}")


@pytest.fixture(scope="module")
def uninterrupted(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("uninterrupted")
    torch.set_num_threads(1)
    fit(tiny.Tiny(), tiny.batches, tiny.config(), run, held_out=tiny.held_out)
    return run


def assert_same_run(run: Path, reference: Path) -> None:
    assert numbers(run) == numbers(reference)
    assert same_tensors(run / "weights.safetensors", reference / "weights.safetensors")
    for name in ("model", "ema", "optimizer"):
        file = Path("checkpoints") / "step-000060" / f"{name}.safetensors"
        assert same_tensors(run / file, reference / file)


def test_killed_at_random_and_resumed_is_bit_identical(tmp_path: Path, uninterrupted: Path) -> None:
    kills = sorted(np.random.default_rng().choice(np.arange(2, 55), 2, replace=False).tolist())
    for step in kills:
        process = start(tmp_path, 0.01)
        wait_for_step(tmp_path, step, process)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, kills
        process.communicate()
    process = start(tmp_path, 0.0)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "finished 60\n"), (kills, error)
    assert_same_run(tmp_path, uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_and_saves(
    tmp_path: Path, tiny: ModuleType, uninterrupted: Path, number: signal.Signals
) -> None:
    def batches(start: int) -> Iterator[Any]:
        for step, batch in enumerate(tiny.batches(start), start):
            if step == 24:
                os.kill(os.getpid(), number)
            yield batch

    before = signal.getsignal(number)
    result = fit(tiny.Tiny(), batches, tiny.config(), tmp_path, held_out=tiny.held_out)
    assert (result.status, result.step, result.weights) == ("interrupted", 25, None)
    assert result.checkpoint == tmp_path / "checkpoints" / "step-000025" == checkpoint.latest(tmp_path)
    assert signal.getsignal(number) is before and not (tmp_path / "weights.safetensors").exists()
    again = fit(tiny.Tiny(), tiny.batches, tiny.config(), tmp_path, held_out=tiny.held_out)
    assert (again.status, again.step, again.weights) == ("finished", 60, tmp_path / "weights.safetensors")
    assert_same_run(tmp_path, uninterrupted)


def test_a_second_signal_stops_at_once(tmp_path: Path, tiny: ModuleType) -> None:
    def batches(start: int) -> Iterator[Any]:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        yield tiny.batch_of(start)

    with pytest.raises(KeyboardInterrupt):
        fit(tiny.Tiny(), batches, tiny.config(), tmp_path)


def test_windows_of_the_log_survive_an_interruption(tmp_path: Path, tiny: ModuleType) -> None:
    def batches(start: int) -> Iterator[Any]:
        for step, batch in enumerate(tiny.batches(start), start):
            if step == 12:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch

    config = tiny.config(steps=20, log_every=8)
    fit(tiny.Tiny(), tiny.batches, config, tmp_path / "whole")
    fit(tiny.Tiny(), batches, config, tmp_path / "parts")
    fit(tiny.Tiny(), tiny.batches, config, tmp_path / "parts")
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    assert [line[1] for line in numbers(tmp_path / "whole")] == ["8", "16", "20"]


def test_the_result_and_log_of_a_finished_run(tmp_path: Path, tiny: ModuleType) -> None:
    told = io.StringIO()
    network = tiny.Tiny()
    result = fit(network, tiny.batches, tiny.config(steps=30), tmp_path, held_out=tiny.held_out, progress=told)
    log = read_log(tmp_path / "log.jsonl")
    assert [line["kind"] for line in (log[0], log[-1])] == ["start", "end"]
    assert (log[0]["precision"], log[0]["trainable_parameters"]) == ("fp32", 84)
    trained = [line for line in log if line["kind"] == "train"]
    assert [line["step"] for line in trained] == list(range(1, 31))
    assert trained[9]["learning_rate"] == learning_rate_at(9, tiny.config().optim, 30)
    assert trained[-1]["loss"] < 0.5 * trained[0]["loss"] and result.loss == trained[-1]["loss"]
    assert [line["step"] for line in log if line["kind"] == "held_out"] == [20, 30]
    assert told.getvalue().startswith("training 84 trainable parameters in fp32 on cpu\n")
    load_weights(network, tmp_path / "weights.safetensors")
    assert same_tensors(tmp_path / "weights.safetensors", result.checkpoint / "ema.safetensors")
    total, count = 0.0, 0
    for number, batch in enumerate(tiny.held_out()):
        tensors = {name: torch.as_tensor(batch[name]) for name in ("vector.x", "action", "mask")}
        rng = torch.Generator().manual_seed(seed_of("held out", 0, number))
        losses = network.eval().loss(tensors, rng).detach()[tensors["mask"]]
        total, count = total + float(losses.sum()), count + losses.numel()
    assert result.held_out_loss == pytest.approx(total / count, rel=1e-6)
    assert fit(tiny.Tiny(), tiny.batches, tiny.config(steps=30), tmp_path).loss == result.loss


def test_each_step_has_its_own_seed(tmp_path: Path, tiny: ModuleType) -> None:
    seen = []

    class Seen(tiny.Tiny):  # type: ignore[misc,name-defined]
        def loss(self, batch: dict[str, Any], rng: torch.Generator) -> torch.Tensor:
            seen.append((rng.initial_seed(), torch.initial_seed()))
            return super().loss(batch, rng)

    fit(Seen(), tiny.batches, tiny.config(steps=6, seed=2), tmp_path)
    assert [seed for seed, _ in seen] == [seed_of("train", 2, step) for step in range(6)]
    assert len({seed for pair in seen for seed in pair}) == 12


def test_without_averaging_the_weights_are_the_models(tmp_path: Path, tiny: ModuleType) -> None:
    result = fit(tiny.Tiny(), tiny.batches, tiny.config(steps=10, ema_decay=0.0), tmp_path, held_out=tiny.held_out)
    assert not (result.checkpoint / "ema.safetensors").exists()
    assert same_tensors(tmp_path / "weights.safetensors", result.checkpoint / "model.safetensors")


def test_measuring_changes_neither_the_training_nor_the_callers_randomness(tmp_path: Path, tiny: ModuleType) -> None:
    before = torch.get_rng_state()
    fit(tiny.Tiny(), tiny.batches, tiny.config(steps=20, evaluate_every=1), tmp_path / "a", held_out=tiny.held_out)
    fit(tiny.Tiny(), tiny.batches, tiny.config(steps=20), tmp_path / "b")
    assert same_tensors(tmp_path / "a" / "weights.safetensors", tmp_path / "b" / "weights.safetensors")
    assert torch.equal(before, torch.get_rng_state())


def test_a_changed_configuration_is_refused_by_field(tmp_path: Path, tiny: ModuleType) -> None:
    fit(tiny.Tiny(), tiny.batches, tiny.config(steps=10), tmp_path)
    changed = tiny.config(steps=10, seed=4, optim=OptimConfig(learning_rate=0.02, warmup_steps=5, weight_decay=0.01))
    with pytest.raises(KinemaError) as caught:
        fit(tiny.Tiny(), tiny.batches, changed, tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[1:3] == [
        "  seed: 4, but the checkpoint has 0",
        "  optim.learning_rate: 0.02, but the checkpoint has 0.01",
    ]
    assert len(lines) == 4 and "step-000010 was trained with another configuration" in lines[0]
    fit(tiny.Tiny(), tiny.batches, tiny.config(steps=10, checkpoint_every=3, max_minutes=5.0), tmp_path)


def test_another_network_is_refused_by_key(tmp_path: Path, tiny: ModuleType) -> None:
    fit(tiny.Tiny(), tiny.batches, tiny.config(steps=10), tmp_path)
    with pytest.raises(KinemaError, match=r"'net.0.weight' is float32 \(8, 3\), expected float32 \(9, 3\)"):
        fit(tiny.Tiny(9), tiny.batches, tiny.config(steps=10), tmp_path)


@pytest.mark.parametrize("what", ["loss", "gradient norm"])
def test_numbers_that_are_not_finite_end_the_training(tmp_path: Path, tiny: ModuleType, what: str) -> None:
    class Broken(tiny.Tiny):  # type: ignore[misc,name-defined]
        def loss(self, batch: dict[str, Any], rng: torch.Generator) -> torch.Tensor:
            loss = super().loss(batch, rng)
            if float(batch["vector.x"][0, 0]) != 99.0:
                return loss
            # The square root of an exact zero has the value 0 and an infinite slope.
            return loss * float("nan") if what == "loss" else loss + torch.sqrt(loss - loss)

    def batches(start: int) -> Iterator[Any]:
        for step, batch in enumerate(tiny.batches(start), start):
            batch["vector.x"][0, 0] = 99.0 if step == 16 else 0.0
            yield batch

    with pytest.raises(KinemaError, match=rf"the {what} of step 16 is nan; the last checkpoint is .*step-000014"):
        fit(Broken(), batches, tiny.config(), tmp_path)
    newest = checkpoint.latest(tmp_path)
    assert newest is not None and newest.name == "step-000014"
    assert all(bool(tensor.isfinite().all()) for tensor in read_tensors(newest / "model.safetensors").values())


def test_batches_that_end_or_do_not_fit_are_named(tmp_path: Path, tiny: ModuleType) -> None:
    with pytest.raises(KinemaError, match="the batches end at step 2 of 60"):
        fit(tiny.Tiny(), lambda start: iter([tiny.batch_of(0), tiny.batch_of(1)]), tiny.config(), tmp_path / "a")
    with pytest.raises(KinemaError, match=r"batch of step 0: 6 samples with .* expected 7 samples"):
        fit(tiny.Tiny(), tiny.batches, tiny.config(batch_size=7), tmp_path / "b")
    empty = {**tiny.batch_of(0), "mask": np.zeros((6, 4), bool)}
    with pytest.raises(KinemaError, match="0 steps kept by the mask"):
        fit(tiny.Tiny(), lambda start: iter([empty]), tiny.config(), tmp_path / "c")


def test_a_budget_of_time_ends_early_and_cleanly(tmp_path: Path, tiny: ModuleType) -> None:
    config = tiny.config(steps=10**6, max_minutes=0.5 / 60)
    result = fit(tiny.Tiny(), tiny.batches, config, tmp_path, held_out=tiny.held_out)
    assert result.status == "out of time" and 0 < result.step < 10**6 and 0.5 <= result.elapsed_s < 20
    assert result.weights is not None and result.weights.exists() and result.held_out_loss is not None
    assert checkpoint.read_state(result.checkpoint)["step"] == result.step
    assert fit(tiny.Tiny(), tiny.batches, config, tmp_path).step == result.step


def test_bf16_trains_close_to_fp32(tmp_path: Path, tiny: ModuleType) -> None:
    full = fit(tiny.Tiny(), tiny.batches, tiny.config(), tmp_path / "full", held_out=tiny.held_out)
    half = fit(tiny.Tiny(), tiny.batches, tiny.config(precision="bf16"), tmp_path / "half", held_out=tiny.held_out)
    assert (full.precision, half.precision) == ("fp32", "bf16")
    assert full.held_out_loss is not None
    assert half.held_out_loss == pytest.approx(full.held_out_loss, rel=0.1) and half.held_out_loss != full.held_out_loss
