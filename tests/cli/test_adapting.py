"""Runs that begin from others: all weights, adapters on them, several adapters on one base, and several processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("torch")
pytest.importorskip("pyarrow")
pytest.importorskip("av")
pytest.importorskip("peft")

from kinema.cli.main import main
from kinema.core.errors import CheckpointError, KinemaError
from kinema.deploy.adapters import AdaptedPolicies
from kinema.deploy.load import load_policy, load_stored
from kinema.train.weights import read_tensors, save_weights

FAST = ("--train.optim.learning-rate", "0.05")


@pytest.fixture(autouse=True)
def toy_within_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def train(data: Path, out: Path, *options: object) -> None:
    assert main(["train", "toy:tiny", "--data", str(data), "--out", str(out), *map(str, options)]) == 0


@pytest.fixture(scope="module")
def adapted(toy_data: Path, toy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a base and two runs of adapters on it. Not to be changed."""
    place = tmp_path_factory.mktemp("adapted")
    shutil.copytree(toy_run, place / "base")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        for name, options in {"a": (), "b": ("--adapt.rank", 3, "--train.seed", 1)}.items():
            train(toy_data, place / name, "--lora", "--start", place / "base", *FAST, *options)
    return place


def observation(rng: np.random.Generator) -> dict[str, object]:
    return {
        "image.front": rng.integers(0, 255, (2, 1, 16, 16, 3), dtype=np.uint8),
        "vector.proprioception": rng.normal(size=(2, 1, 1)).astype(np.float32),
        "instruction": ["go left", "go right"],
    }


def chunk(policy: object) -> np.ndarray:
    return policy.act(observation(np.random.default_rng(0))).action


def test_a_run_of_adapters_holds_what_is_its_own_and_names_its_base(adapted: Path) -> None:
    stored = load_stored(adapted / "a").adapter
    assert stored is not None and stored.base == "../base" and stored.lora.rank == 8 and len(stored.sha256) == 64
    own, base = read_tensors(adapted / "a" / "weights.safetensors"), read_tensors(adapted / "base/weights.safetensors")
    assert all(".lora_" in name or name.startswith("head.") for name in own)
    assert {name for name in base if name.startswith("head.")} < own.keys()
    state = read_tensors(next((adapted / "a" / "checkpoints").glob("step-000004")) / "model.safetensors")
    assert state.keys() == own.keys()
    live = dict(load_policy(adapted / "a").network.named_parameters())
    for name, tensor in base.items():
        if not name.startswith("head."):
            layer, _, last = name.rpartition(".")
            assert torch.equal(live[name if name in live else f"{layer}.base_layer.{last}"], tensor), name
    run = json.loads((adapted / "a" / "run.json").read_text())
    assert run["trained"]["adapt"]["rank"] == 8 and run["trained"]["start"] == str(adapted / "base")


def test_adapters_move_the_policy_and_go_on_exactly(adapted: Path, toy_data: Path, tmp_path: Path) -> None:
    assert not np.allclose(chunk(load_policy(adapted / "a")), chunk(load_policy(adapted / "base")), atol=1e-4)
    shutil.copytree(adapted / "a", tmp_path / "a")
    shutil.copytree(adapted / "base", tmp_path / "base")
    shutil.rmtree(tmp_path / "a/checkpoints/step-000004")
    (tmp_path / "a/weights.safetensors").unlink()
    train(toy_data, tmp_path / "a", "--lora", "--start", tmp_path / "base", *FAST)
    first, again = (read_tensors(place / "a" / "weights.safetensors") for place in (adapted, tmp_path))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_adapters_for_another_base_are_refused(adapted: Path, tmp_path: Path) -> None:
    for name in ("a", "base"):
        shutil.copytree(adapted / name, tmp_path / name)
    weights = {name: tensor.clone() for name, tensor in read_tensors(tmp_path / "base/weights.safetensors").items()}
    next(iter(weights.values())).view(-1)[0] += 1e-6
    save_weights(weights, tmp_path / "base/weights.safetensors")
    with pytest.raises(CheckpointError, match=r"a holds adapters for another base than .*base:\nthe sha256 of its"):
        load_policy(tmp_path / "a")
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(CheckpointError, match=r"holds adapters alone, and their base is not there: .*base\nfix"):
        load_policy(tmp_path / "a")


def test_switched_policies_are_separate_ones(adapted: Path, tmp_path: Path) -> None:
    alone = {name: chunk(load_policy(adapted / name)) for name in ("a", "b")}
    assert not np.allclose(alone["a"], alone["b"], atol=1e-4)
    both = AdaptedPolicies({name: adapted / name for name in ("a", "b")})
    for name in ("a", "b", "a"):
        if name != "a":
            both.use(name)
        assert np.array_equal(chunk(both), alone[name])
        both.use("a")
    with pytest.raises(KinemaError, match=r"unknown adapted policy 'A'; did you mean 'a'\?|unknown adapted policy 'A'"):
        both.use("A")
    with pytest.raises(CheckpointError, match="base holds no adapters, but all weights"):
        AdaptedPolicies({"base": adapted / "base"})


def test_policies_of_other_networks_or_parts_are_not_switched(adapted: Path, tmp_path: Path) -> None:
    for name in ("base", "a", "b"):
        shutil.copytree(adapted / name, tmp_path / name)
    runs = {name: tmp_path / name for name in ("a", "b")}
    said = (tmp_path / "b/policy.json").read_text("utf-8")
    weights = {name: tensor.clone() for name, tensor in read_tensors(tmp_path / "b/weights.safetensors").items()}
    lost = next(name for name in sorted(weights) if ".lora_" not in name)
    save_weights({n: w for n, w in weights.items() if n != lost}, tmp_path / "b/weights.safetensors")
    with pytest.raises(CheckpointError, match=f"only one of them trained '{lost}'"):
        AdaptedPolicies(runs)
    content = json.loads(said)
    content["policy"]["pred_horizon"] = 5
    content["spec"]["embodiment"] = "otherarm"
    (tmp_path / "b/policy.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(CheckpointError, match="b cannot share a network: they differ in pred_horizon, embodiment"):
        AdaptedPolicies(runs)


def test_a_base_in_a_circle_is_named(adapted: Path, tmp_path: Path) -> None:
    shutil.copytree(adapted / "a", tmp_path / "a")
    shutil.copytree(adapted / "b", tmp_path / "base")
    with pytest.raises(CheckpointError, match=r"a holds adapters whose base is in a circle: .*a -> .*base -> .*base"):
        load_policy(tmp_path / "a")


def test_a_run_begins_from_another_or_from_adapters_merged(adapted: Path, toy_data: Path, tmp_path: Path) -> None:
    slow = ("--train.optim.learning-rate", 1e-12, "--train.ema-decay", 0, "--train.optim.weight-decay", 0)
    for base in ("base", "a"):
        train(toy_data, tmp_path / base, "--start", adapted / base, *slow)
        np.testing.assert_allclose(
            chunk(load_policy(tmp_path / base)), chunk(load_policy(adapted / base)), atol=1e-5, rtol=0
        )
    train(toy_data, tmp_path / "fresh", "--start", adapted / "base", "--fresh", "head", *slow)
    fresh, base = (read_tensors(run / "weights.safetensors") for run in (tmp_path / "fresh", adapted / "base"))
    same = {name for name in base if torch.allclose(fresh[name], base[name], atol=1e-6)}
    assert {name for name in base if not name.startswith("head.")} <= same
    assert "head.net.project.1.weight" not in same or len(same) < len(base)


def test_wrong_starts_are_named(adapted: Path, toy_data: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    given = ("train", "toy:tiny", "--data", toy_data, "--out", tmp_path / "out")
    assert "adapters need a base" in refused(*given, "--lora")
    assert "fresh parts need others" in refused(*given, "--fresh", "head")
    assert "is no run directory: it has no policy.json" in refused(*given, "--start", tmp_path)
    wide = refused(*given, "--start", adapted / "base", "--policy.width", 16)
    assert "does not fit:" in wide and "expected float32" in wide
    assert "fresh: 'haed' matches no weight; did you mean 'head'?" in refused(
        *given, "--start", adapted / "base", "--fresh", "haed"
    )
    assert "lora.targets: 'trnk' matches no linear layer; did you mean 'trunk'?" in refused(
        *given, "--lora", "--start", adapted / "base", "--adapt.targets", "trnk"
    )
    given = (*given, "--lora", "--start", adapted / "base", "--fresh", "encoders")
    left = refused(*given)
    assert "would stay as drawn at random: not in" in left and "fix: --adapt.train head encoders." in left
    resumed = ("train", "toy:tiny", "--data", toy_data, "--out", adapted / "b", "--lora", *FAST)
    assert "start: '" in refused(*resumed, "--start", adapted / "a", "--adapt.rank", 3, "--train.seed", 1)


def test_a_step_that_needs_more_memory_than_there_is_is_refused(
    toy_data: Path, tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("kinema.cli.costs.free_memory", lambda device: -(10**9))
    said = refused("train", "toy:tiny", "--data", toy_data, "--out", tmp_path / "out")
    assert "memory: about" in said and "fix: a smaller --train.batch-size, or --ignore-memory" in said
    train(toy_data, tmp_path / "out", "--ignore-memory")
    assert "MiB for a step" in capsys.readouterr().err


def test_torchrun_trains_in_two_processes_what_one_does(toy_data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    given = ["-m", "kinema", "train", "toy:tiny", "--data", str(toy_data), "--train.precision", "fp32", "--out"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [*command, "2", *given, str(tmp_path / "two")], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("finished after 4 steps") == 1 and ended.stderr.count("in 2 processes") == 1
    train(toy_data, tmp_path / "one", "--train.precision", "fp32")
    one, two = (read_tensors(tmp_path / run / "weights.safetensors") for run in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=2e-5, rtol=1e-4)
    assert np.allclose(chunk(load_policy(tmp_path / "one")), chunk(load_policy(tmp_path / "two")), atol=1e-5)
