"""Rows build what they say, made-up runs become the figures computed by hand, and missing rows are named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import benchmarks_page
import metaworld_mt10
import mt10_rows
import mt10_summary
import numpy as np
import pytest
import results

from kinema.core.config import to_data
from kinema.core.episode import Start
from kinema.core.errors import KinemaError
from kinema.evaluation.results import ArmResult, Evaluation, Latency, Manifest, Outcome
from kinema.evaluation.rollout import Trial
from kinema.evaluation.storage import action_key, save
from kinema.heads.regression import Regression
from kinema.recipes import metaworld_mt10 as recipe_module
from kinema.sim.suites.metaworld import MetaWorld

TASKS = ("drawer-open", "drawer-close")


@pytest.mark.parametrize("name", mt10_rows.DESCRIPTIONS)
def test_every_row_reads_what_is_recorded(name: str) -> None:
    recipe = mt10_rows.recipe_of(name, 1200)
    recipe.policy.needs(MetaWorld(cameras=mt10_rows.RECORDED).spec)
    assert recipe.train.steps == (7000 if name == "main" else 1200)


def test_ablations_differ_from_the_reference_in_one_thing() -> None:
    reference = mt10_rows.recipe_of("reference", 1200)
    main = recipe_module.metaworld_mt10()
    assert mt10_rows.recipe_of("main", 1200) == main
    assert replace(reference, train=main.train) == main
    no_ema = mt10_rows.recipe_of("no-ema", 1200)
    assert no_ema.train.ema_decay == 0.0
    assert replace(no_ema, train=replace(no_ema.train, ema_decay=main.train.ema_decay)) == reference
    chunk = mt10_rows.recipe_of("chunk-1", 1200)
    assert (chunk.policy.pred_horizon, chunk.policy.exec_horizon) == (1, 1)
    assert replace(chunk, policy=replace(chunk.policy, pred_horizon=16, exec_horizon=8)) == reference
    silent = mt10_rows.recipe_of("no-language", 1200).policy
    assert "instruction" not in silent.reads
    assert mt10_rows.recipe_of("mse-head", 1200).policy == replace(reference.policy, head=Regression())
    for name, cameras in {"one-camera": 1, "corner2": 1, "near-cameras": 2, "reference": 3}.items():
        row = metaworld_mt10.Mt10().row(name)
        assert len(row.cameras) == cameras
        assert row.recipe.train == reference.train


def test_a_very_short_reference_still_has_a_schedule() -> None:
    assert mt10_rows.recipe_of("reference", 1).train.optim.warmup_steps == 0
    with pytest.raises(KinemaError, match="--ablation-steps 0"):
        mt10_rows.recipe_of("reference", 0)


def test_rows_are_chosen_by_name() -> None:
    assert mt10_rows.select("") == tuple(mt10_rows.DESCRIPTIONS)
    assert mt10_rows.select("no-ema, main") == ("main", "no-ema")
    with pytest.raises(KinemaError, match="unknown row 'no-emma'; did you mean 'no-ema'"):
        mt10_rows.select("no-emma")


def test_the_command_has_what_changes_numbers_and_nothing_else() -> None:
    assert metaworld_mt10.Mt10(work=Path("else"), rows="main", envs=3).command == "python benchmarks/metaworld_mt10.py"
    assert metaworld_mt10.Mt10(ablation_steps=7).command == "python benchmarks/metaworld_mt10.py --ablation-steps 7"
    assert metaworld_mt10.Mt10(chunk_1_episodes=3).row("chunk-1").episodes == 3
    assert metaworld_mt10.Mt10(ablation_episodes=2).row("chunk-1").episodes == 2


def arm_of(name: str, successes: Sequence[bool]) -> ArmResult:
    """Return an arm that plays each task `len(successes) / 2` times, task after task."""
    each = len(successes) // len(TASKS)
    starts = [Start(task=task, seed=1000, episode=episode) for task in TASKS for episode in range(each)]
    outcomes = tuple(
        Outcome(trial=Trial(start=start, instruction="go", variant="seen"), success=success, steps=9)
        for start, success in zip(starts, successes, strict=True)
    )
    latency = Latency(p50_ms=1.0, p95_ms=2.0, p99_ms=3.0, calls=5, batch=4, cores=2)
    return ArmResult(name=name, description=name, blind=name == "blind-camera", outcomes=outcomes, latency=latency)


def make_run(work: Path, row: mt10_rows.Row, *arms: ArmResult) -> None:
    """Write what training and evaluation of `row` leave behind, as far as the summary reads it."""
    result = {"steps": row.recipe.train.steps, "status": "finished", "loss": 0.25, "held_out_loss": 0.5}
    result |= {"precision": "fp32", "elapsed_s": 120.0, "parameters": 2_500_000, "policy_hash": "p"}
    run = work / row.name
    run.mkdir(parents=True)
    manifest = {"trained": to_data(row.recipe), "data": {"content_hash": "d"}, "result": result}
    (run / "run.json").write_text(json.dumps(manifest))
    made = Manifest.here(command="kinema eval", seeds=(1000,), data_hash="d", policy_hash="p")
    names = tuple(arm.name for arm in arms)
    actions = {action_key(arm.name, i): np.zeros((1, 4), np.float32) for arm in arms for i in range(len(arm.outcomes))}
    (run / "eval").mkdir()
    save(Evaluation(arms=arms, planned=names, main="policy", manifest=made), actions, run / "eval")


@pytest.fixture
def bench(tmp_path: Path) -> metaworld_mt10.Mt10:
    """Three rows measured on two tasks: 75 % main, 100 % reference, 0 % without language."""
    bench = metaworld_mt10.Mt10(
        work=tmp_path / "work",
        out=tmp_path / "out",
        tasks=",".join(TASKS),
        episodes=8,
        controls=2,
        ablation_episodes=4,
    )
    main = arm_of("policy", [True] * 8 + [True] * 4 + [False] * 4)
    blind = arm_of("blind-camera", [False] * 4)
    words = arm_of("held-out-words", [True, True, False, True])
    make_run(bench.work, bench.row("main"), main, words, blind, arm_of("wrong-instruction", [False] * 4))
    make_run(bench.work, bench.row("reference"), arm_of("policy", [True] * 8))
    make_run(bench.work, bench.row("no-language"), arm_of("policy", [False] * 8))
    return bench


def test_figures_are_those_of_the_runs(bench: metaworld_mt10.Mt10) -> None:
    document = results.read(bench.write())
    assert (document["mean_success"], document["n"]) == (0.75, 16)
    assert document["mean_success_low"] < 0.75 < document["mean_success_high"]
    rows = document["figures"]["rows"]
    assert rows["main"]["tasks"]["drawer-close"]["successes"] == 4
    assert rows["main"]["training_s"]["value"] == 120.0
    assert rows["main"]["controls"]["held-out-words"]["mean"]["value"] == 0.75
    assert rows["main"]["controls"]["blind-camera"]["versus_policy"]["only_first"] == 4
    # Eight discordant pairs, all one way: p = 2 * 0.5**8.
    assert rows["no-language"]["versus_reference"]["p_mcnemar_exact"]["value"] == pytest.approx(2 / 2**8)
    assert rows["no-language"]["versus_reference"]["p_mcnemar_exact"]["n"] == 8
    assert "versus_reference" not in rows["main"]
    assert rows["mse-head"] == {**rows["mse-head"], "status": "missing"}
    assert "mean" not in rows["mse-head"]
    assert document["missing"] == ["no-ema", "chunk-1", "mse-head", "one-camera", "corner2", "near-cameras"]
    assert document["data"]["content_hashes"] == ["d"]
    assert document["seeds"] == [0, 1000]


def test_before_anything_is_measured_everything_is_missing(tmp_path: Path) -> None:
    document = results.read(metaworld_mt10.Mt10(work=tmp_path / "work", out=tmp_path / "out").write())
    assert document["mean_success"] is None
    assert document["missing"] == list(mt10_rows.DESCRIPTIONS)
    text = benchmarks_page.page({"metaworld_mt10": document})
    assert "The main row is not measured yet" in text
    assert "None" not in text


def test_a_run_of_another_configuration_is_not_shown(bench: metaworld_mt10.Mt10) -> None:
    changed = replace(bench, ablation_steps=900)
    document = results.read(changed.write())
    assert {"reference", "no-language"} <= set(document["missing"])
    with pytest.raises(KinemaError, match="was trained with another configuration than the row 'reference' has now"):
        changed.measure(changed.row("reference"))
    run = bench.work / "main"
    assert mt10_summary.evaluation_of(run, 8, 1000) is not None
    assert mt10_summary.evaluation_of(run, 9, 1000) is None, "fewer episodes than asked are not a finished evaluation"
    assert mt10_summary.evaluation_of(run, 8, 1001) is None


def test_a_finished_row_is_not_run_again(bench: metaworld_mt10.Mt10) -> None:
    before = {path: path.stat().st_mtime_ns for path in bench.work.rglob("*.json")}
    assert bench.measure(bench.row("main")) == 0
    assert before == {path: path.stat().st_mtime_ns for path in bench.work.rglob("*.json")}


def test_the_page_shows_what_the_document_says(bench: metaworld_mt10.Mt10) -> None:
    text = benchmarks_page.page({"metaworld_mt10": results.read(bench.write())})
    assert "(12/16)** mean success over 2 tasks, after 7000 steps in 2 minutes (fp32, 2.5 million parameters" in text
    assert "| drawer-close | 50 %" in text
    assert "| `no-language` | the policy is told nothing | corner_table, corner2_table, gripperPOV | 0 % [0," in text
    assert "| 0 | 8 | 0.0078 (n = 8) | 2 |" in text
    assert "- `mse-head`: regression instead of flow matching" in text


def test_an_unknown_option_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert metaworld_mt10.main(["--row", "main"]) == 2
    assert "--rows" in capsys.readouterr().err


@pytest.mark.slow
def test_the_whole_benchmark_at_a_tiny_size_goes_on_where_it_stopped(tmp_path: Path) -> None:
    options = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"), "--tasks", "drawer-close"]
    options += ["--demos", "2", "--size", "32", "--ablation-steps", "2", "--ablation-episodes", "1"]
    options += ["--workers", "2", "--envs", "1", "--rows"]
    assert metaworld_mt10.main([*options, "no-language"]) == 0
    trained = (tmp_path / "work" / "no-language" / "run.json").stat().st_mtime_ns
    assert metaworld_mt10.main([*options, "no-language,reference"]) == 0
    assert (tmp_path / "work" / "no-language" / "run.json").stat().st_mtime_ns == trained
    document = results.read(tmp_path / "out" / "metaworld_mt10.json")
    rows = document["figures"]["rows"]
    assert rows["no-language"]["versus_reference"]["p_holm"]["n"] == 1
    assert document["data"]["content_hashes"] == [document["data"]["content_hash"]]
    manifest = json.loads((tmp_path / "work" / "reference" / "run.json").read_text())
    assert manifest["command"].endswith("--ablation-episodes 1 --rows reference")
    evaluation = json.loads((tmp_path / "work" / "reference" / "eval" / "eval.json").read_text())
    assert evaluation["manifest"]["command"].startswith("kinema eval ")
    assert metaworld_mt10.main([*options, "reference", "--noise", "0.1"]) == 2
