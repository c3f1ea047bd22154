"""`kinema compare`: stops when the test decides, goes on where it stopped, loses crashing starts and no others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("pyarrow")
pytest.importorskip("gymnasium")

from safetensors.torch import load_file, save_file

from kinema.cli.main import main

Refused = Callable[..., str]
TOY = ("--suite", "toy:Toy", "--tasks", "right")


@pytest.fixture(autouse=True)
def toy_within_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned to go right. Not to be changed."""
    place = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        kinema("record", "toy:Toy", "--tasks", "right", "--episodes", 2, "--out", place / "data", "--workers", 1)
        longer = ("--train.steps", 60, "--train.optim.learning-rate", 0.01, "--train.checkpoint-every", 60)
        kinema("train", "toy:tiny", "--data", place / "data", "--out", place / "trained", *longer)
    return place / "trained"


@pytest.fixture(scope="session")
def idle(toy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose weights are zero: it does the mean action, which leads nowhere. Not to be changed."""
    place = tmp_path_factory.mktemp("idle") / "idle"
    shutil.copytree(toy_run, place)
    tensors = load_file(place / "weights.safetensors")
    save_file({name: tensor * 0 for name, tensor in tensors.items()}, place / "weights.safetensors")
    return place


@pytest.fixture
def twin(toy_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run with weights that differ, but not in what they do."""
    shutil.copytree(toy_run, tmp_path / "twin")
    tensors = load_file(tmp_path / "twin" / "weights.safetensors")
    name = min(name for name, tensor in tensors.items() if tensor.dtype.is_floating_point)
    tensors[name] = tensors[name] * (1 + 1e-6)
    save_file(tensors, tmp_path / "twin" / "weights.safetensors")
    return tmp_path / "twin"


def kinema(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def test_a_trained_policy_is_found_better_than_an_untrained_one_and_early(
    trained: Path, idle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ("compare", trained, idle, *TOY, "--out", out, "--n-max", 40)
    kinema(*command, "--envs", 4)
    said = capsys.readouterr()
    result, pairs = read(out / "compare.json"), read(out / "pairs.json")
    assert result["decision"] == "first better" and result["finished"]
    assert 4 < result["pairs"] < 12, "far fewer than 40"
    assert len(pairs["pairs"]) == result["pairs"], "pairs tried beyond the decision do not count"
    assert result["first"]["successes"] == result["first"]["n"] == result["pairs"]
    assert result["second"]["successes"] == 0
    difference = result["difference"]
    assert difference["difference"] == 1 and 0.2 < difference["low"] < difference["high"] <= 1
    plan = read(out / "plan.json")
    assert plan["hash"] == pairs["plan"] == result["plan"] and f"plan {plan['hash'][:12]}: " in said.err
    n = result["pairs"]
    assert said.out.startswith(
        f"trained is better than idle\nafter {n} of at most 40 pairs (Step, two-sided, alpha 0.05)"
    )
    assert f"trained: {n}/{n} = 100 % [" in said.out and f"idle: 0/{n} = 0 % [" in said.out
    assert "difference: +100 points [+" in said.out

    cut = {**pairs, "pairs": pairs["pairs"][:3]}  # as an interruption leaves it
    (out / "pairs.json").write_text(json.dumps(cut), "utf-8")
    kinema(*command, "--envs", 1)
    assert read(out / "pairs.json") == pairs, "neither an interruption nor --envs changes a pair"
    capsys.readouterr()

    kinema(*command, "--json")  # nothing is left to do
    again = json.loads(capsys.readouterr().out)
    assert {**again, "date": "", "command": ""} == {**result, "date": "", "command": ""}


def test_equal_policies_are_not_distinguishable(
    toy_run: Path, twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    kinema("compare", toy_run, twin, *TOY, "--out", out, "--n-max", 12, "--envs", 2, "--test", "e-process")
    said = capsys.readouterr().out
    assert said.startswith("run and twin: not distinguishable\nafter 12 of at most 12 pairs (EProcess")
    assert "underpowered below " in said or "so few pairs find no difference" in said
    result = read(out / "compare.json")
    assert (result["decision"], result["finished"], result["pairs"]) == ("undecided", True, 12)
    low, high = result["difference"]["low"], result["difference"]["high"]
    assert low == -high < -0.1, "twelve pairs that agree leave room for a difference"


def test_starts_that_crash_are_lost_alone(trained: Path, idle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    broken = ("--raises", 1, "--dies", 3, "--hangs", 4, "--hang-s", 3)
    kinema("compare", trained, idle, *TOY, "--out", out, "--n-max", 4, "--envs", 5, "--test", "lai", *broken)
    pairs = read(out / "pairs.json")["pairs"]
    assert [pair["start"]["episode"] for pair in pairs] == list(range(7)), "in the order of the plan"
    assert [(pair["first"], pair["second"]) for pair in pairs] == [
        (True, False), (None, None), (True, False), (None, None), (None, None), (True, False), (True, False),
    ]  # fmt: skip
    assert pairs[1]["crash"] == "RuntimeError: the simulator diverged"
    assert pairs[3]["crash"].startswith(("EOFError", "ConnectionResetError", "BrokenPipeError"))
    assert pairs[4]["crash"].startswith("TimeoutError")
    assert read(out / "compare.json")["first"]["crashed"] == 3


def test_an_environment_that_never_works_is_not_compared_in(
    trained: Path, idle: Path, tmp_path: Path, refused: Refused
) -> None:
    broken = ("--raises", *range(40))
    error = refused("compare", trained, idle, *TOY, "--out", tmp_path / "out", "--envs", 1, "--n-max", 20, *broken)
    assert "the first 10 pairs all crashed" in error and "pairs.json says how" in error
    few = ("compare", trained, idle, *TOY, "--out", tmp_path / "few", "--envs", 1, "--n-max", 2, *broken)
    assert "the first 6 pairs all crashed" in refused(*few)
    assert main([str(word) for word in few]) == 1, "no pair is no result"


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (("--test", "stpe"), "unknown --test 'stpe'; did you mean 'step'?"),
        (("--alpha", "5"), "alpha 5.0: expected a number between 0 and 1"),
        (("--n-max", "0"), "n_max 0: expected at least one pair"),
        (("--n-max", "2000"), "regions are made for at most 1000 pairs"),
        (("--effect", "20"), "effect 20.0: expected a difference of rates between 0 and 1"),
        (("--envs", "0"), "--envs 0 must be at least 1"),
        (("--hang-s", "0"), "--hang-s 0.0 above 0"),
        (("--embodiment", "other"), "embodiment: 'other', expected 'toy'"),
        (("--episodes", "5"), "unknown option '--episodes'"),
        (("--seed", "0"), "initial states were trained on by "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_compared_is_named(
    options: tuple[str, ...], cause: str, trained: Path, toy_run: Path, tmp_path: Path, refused: Refused
) -> None:
    error = refused("compare", trained, toy_run, *TOY, "--out", tmp_path / "out", *options)
    assert cause in error
    assert not (tmp_path / "out").exists(), "nothing is made for a command that is wrong"


def test_runs_that_cannot_be_compared(
    trained: Path, toy_run: Path, twin: Path, tmp_path: Path, refused: Refused
) -> None:
    out = ("--out", tmp_path / "out")
    assert "'run' and 'run' are the same policy" in refused("compare", toy_run, toy_run, *TOY, *out)
    error = refused("compare", trained, toy_run, "--suite", "toy:Toy", *out)
    assert f"--tasks is missing: {trained} was trained on right\nand {toy_run} on left, right" in error
    assert "no-run is no run directory" in refused("compare", toy_run, "no-run", *TOY, *out)
    text = (twin / "policy.json").read_text("utf-8")
    (twin / "policy.json").write_text(text.replace('"rate_hz": 10.0', '"rate_hz": 20.0'), "utf-8")
    error = refused("compare", toy_run, twin, *TOY, *out)
    assert f"the robot of {toy_run} does not fit that of {twin}" in error and "rate_hz: 10.0, expected 20.0" in error
    assert not (tmp_path / "out").exists()


def test_a_comparison_is_not_mixed_with_another(toy_run: Path, twin: Path, tmp_path: Path, refused: Refused) -> None:
    command = ("compare", toy_run, twin, *TOY, "--out", tmp_path / "out", "--envs", 1, "--test", "lai")
    kinema(*command, "--n-max", 2)
    before = (tmp_path / "out" / "pairs.json").read_bytes()
    assert "planned with another starts" in refused(*command, "--n-max", 2, "--seed", 7)
    assert "planned with another " in refused(*command, "--n-max", 3)
    assert "max_steps: 9, before 30" in refused(*command, "--n-max", 2, "--max-steps", 9)
    assert (tmp_path / "out" / "pairs.json").read_bytes() == before
