"""`kinema eval --chunking`: rules beside the trained execution, on the same starts, told apart in what is stored."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from kinema.cli.chunking import rule_of
from kinema.core.errors import KinemaError
from kinema.deploy.chunking.ensemble import Ensemble
from kinema.deploy.chunking.receding_horizon import RecedingHorizon


def test_a_rule_is_its_name_and_its_options() -> None:
    assert rule_of("ensemble") == Ensemble()
    assert rule_of("receding-horizon --exec-horizon 4") == RecedingHorizon(exec_horizon=4)
    assert rule_of("ensemble --order newest_first --decay 0.5") == Ensemble(decay=0.5, order="newest_first")


def test_help_shows_the_options_of_a_rule(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        rule_of("ensemble --help")
    shown = capsys.readouterr().out
    assert "--decay" in shown and "oldest_first" in shown


def test_rules_are_arms_that_pair_with_the_trained_execution(
    run: Callable[..., object], toy_run: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    copy.mkdir()
    for path in toy_run.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    rules = ("ensemble", "receding-horizon --exec-horizon 1")
    ended = run("eval", copy, "--suite", "toy:Toy", "--episodes", 2, "--controls", 0, "--envs", 2, "--chunking", *rules)
    assert ended.returncode == 0, ended.stderr
    stored = json.loads((copy / "eval" / "eval.json").read_text("utf-8"))
    arms = {arm["name"]: arm for arm in stored["arms"]}
    assert list(arms) == ["policy", "ensemble", "receding-horizon-exec-horizon-1"]
    assert stored["main"] == "policy"
    assert arms["ensemble"]["description"] == "chunks executed by Ensemble(decay=0.01, order='oldest_first')"
    for arm in stored["arms"][1:]:
        assert arm["versus_main"]["p_mcnemar_exact"] <= 1
        starts = [[(t["task"], t["seed"], t["episode"]) for t in one["trials"]] for one in (arms["policy"], arm)]
        assert starts[0] == starts[1]
    # Asked at every step of its 30, the ensemble takes twice the calls of two executed steps.
    assert arms["ensemble"]["latency"]["calls"] > 1.5 * arms["policy"]["latency"]["calls"]
    other = run("eval", copy, "--suite", "toy:Toy", "--episodes", 2, "--controls", 0, "--envs", 2)
    assert other.returncode == 2 and "holds another evaluation (arms:" in other.stderr


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("kinema.deploy.asynchronous:idle_steps", "expected a frozen dataclass derived from Chunking, not <function"),
        ("kinema.deploy.chunking.base:Chunking", "expected a frozen dataclass derived from Chunking, not <class"),
        ("demanding:Demanding", "missing 1 required keyword-only argument: 'steps'\nfix: give every option"),
    ],
)
def test_what_is_no_rule_is_refused(rule: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "demanding.py").write_text(
        "from dataclasses import dataclass\n"
        "from kinema.deploy.chunking.base import Chunking\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Demanding(Chunking):\n"
        "    steps: int\n"
        "    def wrap(self, policy):\n"
        "        return policy\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KinemaError, match=re.escape(said)):
        rule_of(rule)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("ensembel", "unknown chunking 'ensembel'; did you mean 'ensemble'?"),
        ("ensemble --decya 1", "unknown option '--decya'; did you mean '--decay'?"),
        ("receding-horizon --exec-horizon 99", "exec_horizon 99 is more than the 4 actions"),
        ("realtime-chunking --delay 1 --exec-horizon 2", "RegressionHead cannot follow a guide"),
        ("ensemble '", "expected a rule of `kinema list chunking`"),
    ],
)
def test_wrong_rules_are_refused(rule: str, said: str, refused: Callable[..., str], toy_run: Path) -> None:
    assert said in refused("eval", toy_run, "--suite", "toy:Toy", "--episodes", 1, "--controls", 0, "--chunking", rule)
