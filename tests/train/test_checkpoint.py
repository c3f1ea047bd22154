"""Checkpoints: strict to read, whole or not there."""

from __future__ import annotations

import errno
import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from kinema.core.errors import CheckpointError, UnavailableError
from kinema.nets.ema import named_weights
from kinema.train import checkpoint, weights
from kinema.train.loop import fit


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def save(run: Path, step: int, module: nn.Module, keep: int = 2) -> Path:
    return checkpoint.save(run, step, {"model": named_weights(module)}, {"note": step}, keep=keep)


def test_round_trip_is_exact_and_the_last_two_are_kept(tmp_path: Path) -> None:
    modules = {step: network() for step in (5, 10, 1_000_000)}
    for step, module in modules.items():
        save(tmp_path, step, module)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-000010", "step-1000000"]
    newest = checkpoint.latest(tmp_path)
    assert newest is not None and newest.name == "step-1000000"
    other = network()
    state = checkpoint.restore(newest, {"model": named_weights(other)})
    assert (state["step"], state["note"]) == (1_000_000, 1_000_000)
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), modules[1_000_000].parameters(), strict=True))


def test_incomplete_checkpoints_are_passed_over(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path) is None
    save(tmp_path, 1, network())
    (save(tmp_path, 2, network()) / "model.safetensors").unlink()
    (tmp_path / "checkpoints" / ".step-000003.tmp").mkdir()
    (tmp_path / "checkpoints" / "step-000004").mkdir()
    newest = checkpoint.latest(tmp_path)
    assert newest is not None and newest.name == "step-000001"
    save(tmp_path, 2, network())
    assert not (tmp_path / "checkpoints" / ".step-000003.tmp").exists()
    assert [path.name for path in checkpoint.complete(tmp_path)] == ["step-000001", "step-000002"]


def change(path: Path, **changes: torch.Tensor | None) -> None:
    tensors: dict[str, Any] = {**load_file(path), **{name.replace("__", "."): value for name, value in changes.items()}}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)


def test_misfits_are_named_with_the_nearest_match(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    module = nn.ModuleDict({"trunk": nn.Linear(3, 4), "head": nn.Linear(4, 2)})
    weights.save_weights(named_weights(module), path)
    wide = torch.zeros(2, 5)
    change(
        path, trunk__weight=None, trunc__weight=torch.zeros(4, 3), head__weight=wide, head__bias=torch.zeros(2).half()
    )
    before = [p.clone() for p in module.parameters()]
    with pytest.raises(CheckpointError) as caught:
        weights.load_weights(module, path)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{path} does not fit:"
    assert lines[1] == "  missing 'trunk.weight'; the file has 'trunc.weight'?"
    assert lines[2] == "  not expected 'trunc.weight'; did you mean 'trunk.weight'?"
    assert "  'head.weight' is float32 (2, 5), expected float32 (2, 4)" in lines
    assert "  'head.bias' is float16 (2,), expected float32 (2,)" in lines
    assert len(lines) == 5
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_many_misfits_stay_within_ten_lines(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    weights.save_weights({"foreign": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError) as caught:
        weights.load_weights(nn.Sequential(*(nn.Linear(1, 1) for _ in range(20))), path)
    lines = str(caught.value).splitlines()
    assert len(lines) <= 10 and lines[-1] == "  ... and 34 more"


@pytest.mark.parametrize("size", [0, 5, 60, -1])
def test_truncated_files_are_refused(tmp_path: Path, size: int) -> None:
    path = save(tmp_path, 3, network())
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"truncated or no safetensors file.*\n.*delete .*step-000003 to go on"):
        checkpoint.restore(path, {"model": named_weights(network())})


def test_foreign_and_absent_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"\x80\x04not a tensor file at all")
    with pytest.raises(CheckpointError, match="no safetensors file"):
        weights.load_weights(network(), tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"does not exist; did you mean 'weights.safetensors'\?"):
        weights.load_weights(network(), tmp_path / "weight.safetensors")
    path = save(tmp_path, 1, network())
    with pytest.raises(CheckpointError, match="holds model; expected ema, model"):
        checkpoint.restore(path, {"model": {}, "ema": {}})
    (path / "state.json").write_text(json.dumps({"step": 1}))
    with pytest.raises(CheckpointError, match="not the state of a checkpoint of format 1"):
        checkpoint.read_state(path)


def test_shared_storages_and_views_are_written_whole(tmp_path: Path) -> None:
    flat = torch.arange(6.0)
    tensors = {"a": flat[:2], "b": flat[2:].view(2, 2).t(), "c": torch.ones(1).expand(3)}
    weights.save_weights(tensors, tmp_path / "x.safetensors")
    read = weights.read_tensors(tmp_path / "x.safetensors")
    assert {name: tensor.tolist() for name, tensor in read.items()} == {n: t.tolist() for n, t in tensors.items()}


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    module = network()
    first = save(tmp_path, 1, module)

    def full(*given: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(UnavailableError) as caught:
            save(tmp_path, 2, module)
        with pytest.raises(UnavailableError, match=r"cannot write .*w.safetensors: No space left"):
            weights.save_weights(named_weights(module), tmp_path / "w.safetensors")
    target = tmp_path / "checkpoints" / "step-000002"
    assert str(caught.value) == (
        f"cannot write checkpoint {target}: No space left on device\nthe last complete checkpoint is kept: {first}"
    )
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


def test_a_file_size_limit_in_the_middle_of_a_training(tmp_path: Path, tiny: ModuleType) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def batches(start: int) -> Iterator[Any]:
        for number, batch in enumerate(tiny.batches(start), start):
            if number == 15:
                resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
            yield batch

    try:
        with pytest.raises(UnavailableError) as caught:
            fit(tiny.Tiny(4000), batches, tiny.config(steps=30), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"cannot write checkpoint {tmp_path / 'checkpoints' / 'step-000021'}: ")
    assert "File too large" in first
    assert second == f"the last complete checkpoint is kept: {tmp_path / 'checkpoints' / 'step-000014'}"
    assert fit(tiny.Tiny(4000), tiny.batches, tiny.config(steps=30), tmp_path).status == "finished"
