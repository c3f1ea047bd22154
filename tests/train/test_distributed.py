"""Two processes against one: the same losses, the same weights, and a clean end when one of them dies."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from kinema.core.errors import KinemaError
from kinema.heads.vq_bet import VqBet
from kinema.nets.denoisers.interleaved_expert import InterleavedExpert
from kinema.train import checkpoint
from kinema.train import spread as sharding
from kinema.train.distributed import ALONE, Processes, processes
from kinema.train.logging import read_log
from kinema.train.weights import read_tensors

SCRIPT = Path(__file__).with_name("spread_training.py")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def spread() -> ModuleType:
    spec = importlib.util.spec_from_file_location("spread_training", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start(out: Path, *words: str) -> list[subprocess.Popen[str]]:
    """Start two processes as torchrun would, without the time that torchrun takes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    shared = {**os.environ, **address, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": "2"}
    return [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(out), *words],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


@pytest.fixture(scope="module")
def runs(spread: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process's run beside those of two."""
    out = tmp_path_factory.mktemp("spread")
    torch.set_num_threads(1)
    one = Processes(device=torch.device("cpu"), started=True)
    spread.train(out / "one", one)
    assert spread.train(out / "from-one", one, stop=6) == "interrupted"
    ends = [(process.communicate(timeout=120)[1], process.returncode) for process in start(out)]
    assert [code for _, code in ends] == [0, 0], ends
    assert checkpoint.read_state(checkpoint.latest(out / "from-two"))["step"] == 7
    spread.train(out / "from-two", one)
    return out


def log_of(run: Path, kind: str, name: str) -> list[float]:
    return [line[name] for line in read_log(run / "log.jsonl") if line["kind"] == kind]


@pytest.mark.parametrize("name", ["copies", "shards", "from-one", "from-two"])
def test_two_processes_are_one(runs: Path, name: str) -> None:
    """Copies (DDP), shards (FSDP2, interrupted and resumed), and each number of processes resumed by the other."""
    for kind, value in (("train", "loss"), ("train", "grad_norm"), ("held_out", "loss")):
        np.testing.assert_allclose(
            log_of(runs / name, kind, value), log_of(runs / "one", kind, value), rtol=2e-6, atol=1e-7
        )
    assert len(log_of(runs / name, "train", "loss")) == 12
    file = checkpoint.latest(runs / name).name
    for weights in ("weights", *(f"checkpoints/{file}/{part}" for part in ("model", "ema", "optimizer"))):
        stored, expected = (read_tensors(runs / run / f"{weights}.safetensors") for run in (name, "one"))
        assert stored.keys() == expected.keys()
        for key, tensor in expected.items():
            torch.testing.assert_close(stored[key], tensor, rtol=1e-4, atol=2e-7)


def test_the_first_process_alone_writes(runs: Path) -> None:
    [started] = [line for line in read_log(runs / "copies" / "log.jsonl") if line["kind"] == "start"]
    assert started["processes"] == 2
    assert {path.name for path in (runs / "copies").iterdir()} == {"checkpoints", "log.jsonl", "weights.safetensors"}


def test_a_process_that_dies_ends_the_other_with_a_message(tmp_path: Path) -> None:
    both = start(tmp_path, "endless")
    deadline = time.monotonic() + 60
    while not (checkpoint.latest(tmp_path) and (tmp_path / "pid-1").exists()):
        assert time.monotonic() < deadline and both[1].poll() is None, both[1].communicate()
        time.sleep(0.05)
    os.kill(int((tmp_path / "pid-1").read_text()), signal.SIGKILL)
    error = both[0].communicate(timeout=60)[1]
    both[1].communicate()
    assert both[0].returncode == 2, error
    assert "error: process 0: another process of this training has ended, so this one does: " in error
    assert error.endswith("the same command goes on from the last checkpoint\n") and "Traceback" not in error


def test_a_batch_is_shared_out_in_order() -> None:
    batch: dict[str, Any] = {"mask": np.ones((6, 2), bool), "x": np.arange(6), "instruction": list("abcdef")}
    parts = [Processes(device=torch.device("cpu"), rank=rank, world=3).part(batch) for rank in range(3)]
    assert [part["x"].tolist() for part in parts] == [[0, 1], [2, 3], [4, 5]]
    assert [part["instruction"] for part in parts] == [["a", "b"], ["c", "d"], ["e", "f"]]
    assert ALONE.part(batch)["x"].tolist() == list(range(6))
    with pytest.raises(KinemaError, match="a batch of 6 samples cannot be shared by 4 processes"):
        Processes(device=torch.device("cpu"), world=4).part(batch)


def test_noise_belongs_to_the_place_in_the_batch() -> None:
    rng, device = torch.Generator(), torch.device("cpu")
    alone = Processes(device=device, started=True).noise(rng, 4, "train", 0, 5)
    second = Processes(device=device, started=True, rank=1, world=2).noise(rng, 2, "train", 0, 5)
    assert [g.initial_seed() for g in alone[2:]] == [g.initial_seed() for g in second]
    assert ALONE.noise(rng, 4, "train", 0, 5) is rng


def test_what_cannot_be_is_named(spread: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KinemaError, match=r"shard splits a network between processes, and there is one\nfix: torchrun"):
        spread.train(tmp_path, ALONE, shard=True)
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(KinemaError, match="RANK is set, but not WORLD_SIZE, LOCAL_RANK"), processes("cpu"):
        pass


def test_a_head_that_learns_in_stages_is_for_one_process() -> None:
    head = VqBet(quantiser_steps=3, codes=4, latent=6, hidden=8).build(action_width=2, pred_horizon=3, width=8)
    network: Any = torch.nn.ModuleDict({"head": head})
    for shard in (False, True):
        with pytest.raises(KinemaError, match=r"VqBetHead learns its quantiser .*2 processes .*\nfix: train it in one"):
            Processes(device=torch.device("cpu"), world=2, started=True).spread(network, shard=shard)
    assert ALONE.spread(network, shard=False) is network


def test_layers_that_are_never_called_are_split_with_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """SmolVLA's expert runs the projections of every second layer itself."""
    expert: Any = InterleavedExpert().build(action_width=2, pred_horizon=3, width=8)
    split: list[torch.nn.Module] = []
    monkeypatch.setattr(sharding, "init_device_mesh", lambda kind, shape: None)
    monkeypatch.setattr(sharding, "fully_shard", lambda module, **_: split.append(module))
    monkeypatch.setattr(sharding, "register_fsdp_forward_method", lambda module, name: None)
    sharding.sharded(expert, torch.device("cpu"), 2)
    layers = list(expert.model.layers)
    assert split == [*reversed(layers[::2]), expert] and len(layers) > 2


def test_what_the_processes_share_is_gathered_on_the_cpu_for_the_first_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Part:
        def full_tensor(self) -> torch.Tensor:
            asked.append(self)
            return torch.zeros(2, device="meta")

    asked: list[Part] = []
    monkeypatch.setattr(sharding, "DTensor", Part)
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: ("on the cpu", tensor.shape))
    parts: Any = {"a": Part(), "b": Part()}
    assert sharding.whole(parts) == dict.fromkeys("ab", ("on the cpu", (2,)))
    assert sharding.whole(parts, keep=False) == {}
    assert asked == [*parts.values()] * 2, "the others must ask for each too"
