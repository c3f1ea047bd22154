"""The comparison of heads: rows that exist, gates that can break, results that are kept, and the page of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import heads_fork
import heads_metaworld
import heads_rows
import numpy as np
import page_heads
import pytest
import results
import torch
from fork_fit import fit
from heads_rows import METAWORLD, Row

from kinema.core.errors import KinemaError
from kinema.heads.flow import Flow
from kinema.heads.regression import Regression
from kinema.nets.denoisers.mlp import Mlp
from kinema.sim.fork import Fork

WRONG = {"gates": {"invalid": (0.0, 0.1)}, "near": ("mse", 0.02), "faster": ("mse", 1e6)}


def test_every_head_of_the_repository_is_in_the_rows() -> None:
    rows = heads_rows.fork_rows()
    held = {type(row.config) for row in rows.values()}
    for name, head in heads_rows.heads().items():
        assert head in held or name in heads_rows.left_out(), name
    for name, row in rows.items():
        assert row.fork in heads_rows.FORKS, name
        for other in (row.near, row.faster):
            assert other is None or rows[other[0]].fork == row.fork, f"{name} is compared with {other}"
        if row.weights is not None:
            source = rows[row.weights]
            assert (type(source.config), source.fork, source.weights) == (type(row.config), row.fork, None), name
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


@pytest.fixture
def two_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is one row that must hold and one that cannot: the mean is invalid, not valid."""
    mse = Row(config=Regression(loss="mse"), gates={"invalid": (0.9, 1.0)}, steps=100, count=3)
    monkeypatch.setattr(heads_fork, "fork_rows", lambda: {"mse": mse, "wrong": replace(mse, **WRONG)})
    monkeypatch.setattr(heads_fork, "left_out", lambda: {"asking": "no row gives it codebook"})


@pytest.mark.usefixtures("two_rows")
def test_results_are_written_kept_and_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = heads_fork.HeadsFork(work=tmp_path / "work", out=tmp_path, seeds=2)
    assert run.run() == 1
    said = capsys.readouterr().out
    assert "broken: wrong: invalid in [0, 0.1] broken by 2 of 2 seeds" in said
    assert "broken: asking: no row gives it codebook" in said
    figures = results.read(tmp_path / "heads_fork.json")["figures"]
    assert figures["mse"]["gates"] == {"invalid in [0.9, 1]": "holds"}
    assert figures["mse"]["invalid"]["n"] == 2, "what draws nothing counts once a seed"
    assert figures["wrong"]["gates"]["invalid within 0.02 of mse"] == "holds"
    assert figures["wrong"]["gates"]["1e+06 times as fast as mse"] == "broken by 2 of 2 seeds"
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
    about = {"command": "c", "date": "2030-01-01", "cores": 2, "cpu": "c", "versions": {}, "notes": []}
    return {
        "heads_fork": {"figures": fork, "name": "heads_fork", **about},
        "heads_metaworld": {"figures": metaworld, "name": "heads_metaworld", "tasks": ["reach"], **about},
    }


def test_the_page_shows_every_row_and_what_is_missing() -> None:
    text = page_heads.page(f"before\n{page_heads.BEGIN}\nold\n{page_heads.END}\nafter\n", made_up())
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "| flow | 45 % [40, 50] | 2 % [2, 2] | 1.5 | 80 % [80, 80] (80/100) | 12,345 |" in text
    assert "| one step (ablation) | 50:50 | 50 % | 48 % | 2 % [2, 2] (2/100) | **cover in [0, 0.1]: broken by 3" in text
    assert "- later: there is no head 'later'." in text
    assert "| flow | 90 % [90, 90] (90/100) |  | 9 |" in text
    nothing = page_heads.page(f"{page_heads.BEGIN}{page_heads.END}", {})
    assert "not measured yet" in nothing and "|" not in nothing
    with pytest.raises(ValueError, match="lacks the marks"):
        page_heads.page("no marks", {})


def test_the_tables_say_what_the_files_say() -> None:
    text = page_heads.PAGE.read_text("utf-8")
    assert page_heads.page(text, results.read_all()) == text, "run `make benchmarks-page`"
