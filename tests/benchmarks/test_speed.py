"""The parts of the speed benchmark measure something at tiny sizes, and finished parts are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import results
import speed
import speed_parts

from kinema.core.errors import KinemaError


def test_the_plan_covers_every_part_and_gives_options_that_the_parts_take() -> None:
    import inspect

    for quick in (False, True):
        jobs = speed.plan(quick=quick)
        assert len({job.name for job in jobs}) == len(jobs)
        assert {job.part for job in jobs} == set(speed_parts.PARTS) - {"one-training"}
        for job in jobs:
            inspect.signature(speed_parts.PARTS[job.part]).bind(**json.loads(json.dumps(dict(job.options))))


def test_the_page_knows_every_part() -> None:
    import page_speed

    assert {job.name for job in speed.plan(quick=False)} == set(page_speed.SPEED_PARTS)


def test_calls_a_second() -> None:
    calls: list[int] = []
    per_second = speed_parts._per_second(lambda: calls.append(1), 0.01)
    assert len(calls) >= 2
    assert 0 < per_second <= len(calls) / 0.01  # a busy machine takes longer than asked, never shorter


def test_starting_is_measured_and_the_machine_is_named() -> None:
    part = speed.run_job(speed.Job(name="start-up", part="start-up", options={"repeats": 1}))
    assert part["import kinema"]["unit"] == "ms"
    assert part["import kinema"]["n"] == 1
    assert part["memory"]["process"]["value"] > 1
    results._check_tree(part, "start-up")


def test_what_a_machine_cannot_draw_with_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINEMA_GL_CHECKED", "egl")  # must not hide the backend that is asked for
    job = speed.Job(
        name="rendering/none",
        part="rendering",
        options={"sizes": [16], "repeats": 1, "sample_s": 0.0},
        environment={"MUJOCO_GL": "nothing"},
    )
    found = speed.run_job(job)
    assert "no off-screen OpenGL backend works here" in found["unavailable"]
    assert "MUJOCO_GL=nothing" in found["unavailable"]


def test_a_part_that_fails_is_an_error_that_names_it() -> None:
    with pytest.raises(KinemaError, match=r"(?s)odd failed with 1: TypeError.*speed_parts\.py"):
        speed.run_job(speed.Job(name="odd", part="loading", options={"cats": 1}))


def test_inference_training_and_loading_at_tiny_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_parts, "SYNTHETIC", {"episodes": 2, "length": 9})
    monkeypatch.setattr("kinema.recipes.metaworld_demo.metaworld_demo", tiny)
    acting = speed_parts.inference(recipe="metaworld-demo", batches=[1, 2], calls=4)
    assert acting["batch-2"]["n"] == 4
    assert acting["batch-1"]["p50"] <= acting["batch-1"]["p99"] <= acting["batch-1"]["max"]
    loading = speed_parts.loading(recipe="metaworld-demo", repeats=3, batches=1)
    assert loading["batches"]["n"] == 3
    training = speed_parts.training(recipe="metaworld-demo", rounds=2, window=1, windows=2)
    assert training["fp32"]["n"] == training["bf16"]["n"] == training["ratio"]["n"] == 4
    for part in (acting, loading, training):
        results._check_tree(part, "part")


def metaworld_demo() -> Any:
    """Return a small recipe without a sentence encoder."""
    from kinema.policies.film_flow import film_flow
    from kinema.recipes.base import Recipe
    from kinema.train.config import TrainConfig

    policy = film_flow(cameras=("gripperPOV",), language=None, width=16, pred_horizon=4, exec_horizon=2)
    return Recipe(policy=policy, train=TrainConfig(steps=1000, batch_size=2))


metaworld_demo.__module__ = "kinema.recipes.metaworld_demo"
tiny = metaworld_demo


def test_finished_parts_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    def run_job(job: speed.Job) -> dict[str, Any]:
        started.append(job.name)
        return {"steps": results.repeated([1.0 + len(started)], "steps/s")}

    monkeypatch.setattr(speed, "run_job", run_job)
    options = {"work": tmp_path / "work", "out": tmp_path / "out"}
    assert speed.Speed(only="recording", **options).run() == 0
    assert speed.Speed(only="recording,loading", **options).run() == 0
    assert started == ["recording", "loading/demo", "loading/mt10"]
    document = results.read(tmp_path / "out" / "speed.json")
    assert document["figures"]["recording"]["steps"]["value"] == 2.0
    assert "recording" not in document["missing"]
    assert "rendering/egl" in document["missing"]
    assert speed.Speed(only="recording", again=True, **options).run() == 0
    assert started[3:] == ["recording"]
    monkeypatch.setattr(results, "cpu_model", lambda: "another")
    assert speed.Speed(only="recording", **options).run() == 0
    assert started[4:] == ["recording"], "figures of another machine are not mixed with these"


def test_a_quick_run_never_replaces_real_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "run_job", lambda job: {"x": results.repeated([1.0], "ms")})
    assert speed.Speed(quick=True, only="start-up", work=tmp_path / "work", out=tmp_path / "out").run() == 0
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "work" / "quick" / "speed.json").is_file()


def test_an_unknown_part_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert speed.main(["--only", "renderin"]) == 2
    assert "did you mean 'rendering'" in capsys.readouterr().err
