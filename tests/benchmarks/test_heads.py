"""The comparison of heads: rows that exist, gates that can break, results that are kept, and the page of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import heads_fork
import heads_metaworld
import heads_rows
import numpy as np
import page_heads
import pytest
import results
import torch
from fork_fit import fit, untrained
from heads_rows import METAWORLD, Row

from kinema.cli.kept import keep
from kinema.core.errors import KinemaError
from kinema.core.spec import ActionSpec, ObservationSpec, RobotSpec, Vector
from kinema.evaluation import storage
from kinema.heads.flow import Flow
from kinema.heads.regression import Regression
from kinema.heads.vq_bet import VqBetHead
from kinema.nets.denoisers.mlp import Mlp
from kinema.policies.network import Network
from kinema.sim.fork import Fork

WRONG = {"gates": {"invalid": (0.0, 0.1)}, "near": ("mse", 0.02), "fewer": ("mse", 1.0)}

CALLS = {
    "regression, MSE": 0,
    "flow, 10 steps": 10,
    "consistency, 1 step": 1,
    "rectified, 1 step": 1,
    "diffusion, DDIM 10 steps": 10,
    "diffusion, DDPM 100 steps": 100,
}


def test_every_head_of_the_repository_is_in_the_rows() -> None:
    rows = heads_rows.fork_rows()
    held = {type(row.config) for row in rows.values()}
    for name, head in heads_rows.heads().items():
        assert head in held or name in heads_rows.left_out(), name
    alone = {name: reason for name, reason in heads_rows.left_out().items() if "language model" in reason}
    assert set(alone) == {"parallel-slots", "text-tokens"}
    for name, row in rows.items():
        assert row.fork in heads_rows.FORKS, name
        for other in (row.near, row.fewer):
            assert other is None or rows[other[0]].fork == row.fork, f"{name} is compared with {other}"
        if row.weights is not None:
            source = rows[row.weights]
            assert (type(source.config), source.fork, source.weights) == (type(row.config), row.fork, None), name
            assert row.config != source.config, f"{name} is {row.weights} under another name"
    for name, config in METAWORLD.items():
        assert name not in rows or type(rows[name].config) is type(config), f"{name} is another head on the Fork"


def test_a_new_head_is_measured_with_its_defaults_or_named(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True, kw_only=True)
    class New(Regression):
        blocks: int = 1

    @dataclass(frozen=True, kw_only=True)
    class Asking(Regression):
        codebook: int

    monkeypatch.setattr(heads_rows, "heads", lambda: {"new": New, "asking": Asking, "regression": Regression})
    assert set(heads_rows.fork_rows()) - set(heads_rows.FORK) == {"new, defaults"}
    assert heads_rows.left_out() == {"asking": "no row gives it codebook"}


def test_a_fit_is_a_function_of_its_seed_and_the_mean_hits_the_obstacle() -> None:
    config = Regression(loss="mse")
    fitted = fit(config, Fork(), steps=120, seed=0, width=32)
    assert Fork().judge(fitted.sample(4, 0)).invalid == 1.0
    assert fitted.losses[-1] < 0.5 * fitted.losses[0]
    assert fitted.losses == fit(config, Fork(), steps=120, seed=0, width=32).losses
    assert fitted.losses != fit(config, Fork(), steps=120, seed=1, width=32).losses
    built = config.build(action_width=2, pred_horizon=16, width=32)
    assert fitted.parameters == sum(p.numel() for p in built.parameters())
    assert 0 < fitted.sample_ms < 1000


def test_the_same_weights_act_in_another_way() -> None:
    many = fit(Flow(denoiser=Mlp(hidden=16, blocks=1)), Fork(horizon=4), steps=5, seed=0, width=16)
    once = many.acting_as(Flow(denoiser=Mlp(hidden=16, blocks=1), steps=1))
    assert once.alone.head.config.steps == 1 and once.parameters == many.parameters
    assert all(torch.equal(a, b) for a, b in zip(many.alone.parameters(), once.alone.parameters(), strict=True))
    assert not np.allclose(many.sample(3, 0), once.sample(3, 0))


def test_calls_of_the_denoiser_are_counted() -> None:
    rows = heads_rows.fork_rows()
    calls = {name: untrained(rows[name].config, Fork()).calls for name in CALLS}
    assert calls == CALLS
    outcome = [{"cover": 0.5, "invalid": 0.0}]
    for name, said in (("consistency, 1 step", "holds"), ("flow, 10 steps", "broken: 10 calls, 10 there")):
        row = Row(config=rows[name].config, fewer=("flow, 10 steps", 8.0))
        gates = dict(heads_fork._gates(row, outcome, rows, {}))
        assert gates == {"8 times fewer denoiser calls than flow, 10 steps": said}


def test_a_share_that_is_zero_but_for_rounding_keeps_its_gate() -> None:
    row = Row(config=Regression(), gates={"invalid": (0.0, 0.01)})
    for invalid, said in ((1 - 0.1 - 0.2 - 0.7, "holds"), (-1.1e-16, "holds"), (0.02, "broken by 1 of 1 seeds")):
        assert list(heads_fork._gates(row, [{"invalid": invalid}], {}, {})) == [("invalid in [0, 0.01]", said)]


def test_commands_name_the_options_that_are_not_defaults() -> None:
    assert heads_rows.given(heads_fork.HeadsFork(), "seeds", "scale") == ""
    assert heads_rows.given(heads_fork.HeadsFork(scale=0.1, seeds=3), "seeds", "scale") == " --scale 0.1"


def test_a_shortened_run_is_kept_out_of_the_results(tmp_path: Path) -> None:
    with pytest.raises(KinemaError, match=r"--scale 0.1 is for trying out"):
        heads_fork.HeadsFork(work=tmp_path, scale=0.1).run()
    assert not list(tmp_path.iterdir())


@pytest.fixture
def two_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is one row that must hold and one that cannot: the mean is invalid, not valid."""
    mse = Row(config=Regression(loss="mse"), gates={"invalid": (0.9, 1.0)}, steps=100, count=3)
    monkeypatch.setattr(heads_fork, "fork_rows", lambda: {"mse": mse, "wrong": replace(mse, **WRONG)})
    monkeypatch.setattr(
        heads_fork, "left_out", lambda: {"asking": "no row gives it codebook", "parallel-slots": heads_rows.GOES_ON}
    )


@pytest.mark.usefixtures("two_rows")
def test_results_are_written_kept_and_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = heads_fork.HeadsFork(work=tmp_path / "work", out=tmp_path, seeds=2)
    assert run.run() == 1
    said = capsys.readouterr().out
    assert "broken: wrong: invalid in [0, 0.1] broken by 2 of 2 seeds" in said
    assert "broken: asking: no row gives it codebook" in said
    assert "parallel-slots" not in said, "what cannot be measured alone breaks no gate"
    figures = results.read(tmp_path / "heads_fork.json")["figures"]
    assert figures["parallel-slots"]["unavailable"] == heads_rows.GOES_ON
    assert figures["mse"]["gates"] == {"invalid in [0.9, 1]": "holds"}
    assert figures["mse"]["invalid"]["n"] == 2, "what draws nothing counts once a seed"
    assert figures["wrong"]["gates"]["invalid within 0.02 of mse"] == "holds"
    assert figures["wrong"]["gates"]["1 times fewer denoiser calls than mse"] == "broken: 0 calls, 0 there"
    kept = tmp_path / "work" / "mse.0.json"
    kept.write_text(json.dumps({**json.loads(kept.read_text("utf-8")), "sample_ms": 123.0}), "utf-8")
    run.run()
    assert results.read(tmp_path / "heads_fork.json")["figures"]["mse"]["sample"]["max"] == 123.0, "not measured again"
    with pytest.raises(KinemaError, match="unknown row 'mes'; did you mean 'mse'"):
        heads_fork.HeadsFork(work=tmp_path, out=tmp_path, rows=("mes",)).run()


def test_every_row_of_mw3_can_be_built_and_is_missing_before_it_is_measured(tmp_path: Path) -> None:
    for config in METAWORLD.values():
        policy = heads_metaworld.mw3(config, steps=100, seed=0).policy
        built = policy.head.build(action_width=4, pred_horizon=policy.pred_horizon, width=policy.width)
        assert sum(p.numel() for p in built.parameters()) > 0
    heads_metaworld.HeadsMetaworld(work=tmp_path / "work", out=tmp_path)._write()
    figures = results.read(tmp_path / "heads_metaworld.json")["figures"]
    assert list(figures) == list(METAWORLD) and all("unavailable" in row for row in figures.values())
    with pytest.raises(KinemaError, match="did you mean 'regression, MSE'"):
        heads_metaworld.HeadsMetaworld(work=tmp_path, rows=("regresion, MSE",)).run()


@pytest.mark.parametrize("name", METAWORLD)
def test_every_head_of_mw3_teaches_encoder_and_trunk(name: str) -> None:
    """A head that reads tokens which the trunk hands through would leave the trunk as it began."""
    torch.manual_seed(0)
    policy = replace(heads_metaworld.mw3(METAWORLD[name], steps=100, seed=0).policy, transforms=())
    network = Network(policy, arm())
    for parameter in network.head.parameters():  # some heads begin with zeros, which let no gradient through
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    if isinstance(network.head, VqBetHead):
        network.head.steps.fill_(1000)
    action, mask = 0.5 * torch.randn(4, 16, 4).clamp(-1, 1), torch.ones(4, 16, dtype=torch.bool)
    seen = {heads_metaworld.STATE: torch.randn(4, 1, 39), "action": action, "mask": mask}
    network.loss(seen, torch.Generator().manual_seed(0)).sum().backward()
    for part in (network.encoders, network.trunk):
        moved = [parameter.grad for parameter in part.parameters() if parameter.grad is not None]
        assert sum(float(gradient.abs().sum()) for gradient in moved) > 0, type(part).__name__


def arm() -> RobotSpec:
    """Return a robot with the state and the actions of Meta-World."""
    names = tuple(f"x{index}" for index in range(39))
    state = Vector(name="full_state", components=names, units=("m",) * 39, frame="world")
    action = ActionSpec(
        components=names[:4],
        units=("normalised",) * 4,
        frame="world",
        kind="end-effector delta",
        integrator="none",
        low=(-1.0,) * 4,
        high=(1.0,) * 4,
    )
    return RobotSpec(embodiment="arm", rate_hz=80.0, observation=ObservationSpec(vectors=(state,)), action=action)


def test_what_was_made_with_other_options_is_refused(tmp_path: Path) -> None:
    run, name = heads_metaworld.HeadsMetaworld(work=tmp_path, out=tmp_path), "GMM, 5 modes"
    kept, recipe = run.kept(), run.recipe(name, 0)
    keep(kept.directory(name, 0) / "asked.json", kept.training(recipe), begun=False)
    with pytest.raises(KinemaError, match=r"train: {'type': .*'steps': 70, .* before .*'steps': 1500"):
        kept.measure(name, 0, replace(run, steps=70).recipe(name, 0))
    with pytest.raises(KinemaError, match="recorded"):
        replace(run, demos=7).kept().measure(name, 0, recipe)
    keep(tmp_path / "recorded.json", kept.recording, begun=False)
    with pytest.raises(KinemaError, match="episodes: 7, before 25"):
        replace(run, demos=7).run()
    kept.directory("regression, L1", 0).mkdir()
    with pytest.raises(KinemaError, match=r"lacks asked\.json"):
        kept.measure("regression, L1", 0, run.recipe("regression, L1", 0))


def test_only_what_these_options_ask_for_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, name = heads_metaworld.HeadsMetaworld(work=tmp_path, out=tmp_path), "GMM, 5 modes"
    kept = run.kept()
    directory = kept.directory(name, 0)
    assert directory == tmp_path / "GMM-5-modes-0"
    keep(directory / "asked.json", kept.training(run.recipe(name, 0)), begun=False)
    keep(directory / "eval" / "asked.json", kept.evaluation, begun=False)
    (directory / "run.json").touch()
    (directory / "eval" / storage.EVAL_FILE).touch()
    found = SimpleNamespace(complete=True, arms=[SimpleNamespace(name="policy")])
    monkeypatch.setattr(storage, "load_evaluation", lambda path: found)

    def arm(**changes: Any) -> Any:
        other = replace(run, **changes)
        return other.kept().arm(name, 0, other.recipe(name, 0))

    assert arm() is found.arms[0] and arm(workers=7) is found.arms[0]
    for changes in ({"steps": 70}, {"demos": 7}, {"noise": 7.0}, {"episodes": 7}, {"seed": 7}):
        assert arm(**changes) is None, changes
    found.complete = False
    assert arm() is None
    replace(run, demos=7, seed=8)._write()
    command = results.read(tmp_path / "heads_metaworld.json")["command"]
    assert command == "python benchmarks/heads_metaworld.py --demos 7 --seed 8"


def made_up() -> dict[str, dict]:
    def share(value: float) -> dict:
        hits = round(100 * value)
        return {"value": value, "unit": "share", "n": 100, "successes": hits, "low": value, "high": value}

    def row(kind: str, gates: dict[str, str]) -> dict:
        return {
            "head": "flow",
            "fork": "50:50",
            "kind": kind,
            "cover": results.repeated([0.4, 0.45, 0.5], "share"),
            "left": share(0.5),
            "right": share(0.48),
            "invalid": share(0.02),
            "parameters": results.once(12345, "count"),
            "sample": results.repeated([1.0, 2.0], "ms"),
            "gates": gates,
        }

    fork = {
        "flow": row("system", {"invalid in [0, 0.05]": "holds"}),
        "one step": row("ablation", {"cover in [0, 0.1]": "broken by 3 of 3 seeds"}),
        "later": results.unavailable("there is no head 'later'"),
    }
    tasks = {"reach": share(0.9)}
    metaworld = {"flow": {"success": share(0.8), "tasks": tasks, "training": results.once(9.0, "s")}}
    metaworld["flow"]["parameters"] = results.once(67890, "count")
    about = {"command": "c", "date": "2030-01-01", "cores": 2, "cpu": "c", "versions": {}, "notes": []}
    return {
        "heads_fork": {"figures": fork, "name": "heads_fork", **about},
        "heads_metaworld": {"figures": metaworld, "name": "heads_metaworld", "tasks": ["reach"], **about},
    }


def test_the_page_shows_every_row_and_what_is_missing() -> None:
    text = page_heads.page(f"before\n{page_heads.BEGIN}\nold\n{page_heads.END}\nafter\n", made_up())
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "| head | Fork: rarer side | Fork: invalid | Fork: ms a chunk | Fork: parameters | MW-3: success |" in text
    assert "| flow | 45 % [40, 50] | 2 % [2, 2] | 1.5 | 12,345 | 80 % [80, 80] (80/100) |" in text
    assert "| one step (ablation) | 50:50 | 50 % | 48 % | 2 % [2, 2] (2/100) | **cover in [0, 0.1]: broken by 3" in text
    assert "- later: there is no head 'later'." in text
    assert "| flow | 90 % [90, 90] (90/100) |  | 67,890 | 9 |" in text, "MW-3 has its own parameters"
    nothing = page_heads.page(f"{page_heads.BEGIN}{page_heads.END}", {})
    assert "not measured yet" in nothing and "|" not in nothing
    with pytest.raises(ValueError, match="lacks the marks"):
        page_heads.page("no marks", {})


def test_the_tables_say_what_the_files_say() -> None:
    text = page_heads.PAGE.read_text("utf-8")
    assert page_heads.page(text, results.read_all()) == text, "run `make benchmarks-page`"
