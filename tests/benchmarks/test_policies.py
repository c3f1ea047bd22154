"""The comparison of presets: rows that fit, published sizes, results that are kept, and the page of them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import page_policies
import policies
import pytest
import results
import torch
from policies import FIXTURES, Policies
from policies_rows import ROWS

from kinema.cli.suites import make_suite
from kinema.core.errors import KinemaError
from kinema.core.names import find, members
from kinema.core.transform import Chain
from kinema.nets.encoders.prompt import Prompt
from kinema.policies.base import PolicyConfig
from kinema.policies.network import Network

PUBLISHED = {
    "ACT": 51.6e6,  # LeRobot 0.4.4's default, of one camera
    "Diffusion Policy, CNN": 263e6,  # the same
    "VQ-BeT": 37.9e6,  # the same
    "RT-1": 35e6,  # Brohan et al. 2022, section 5.1
    "Octo": 93e6,  # Octo team 2024, Octo-Base
    "OpenVLA": 7.5e9,  # Kim et al. 2024
    "pi0": 3.24e9,  # Black et al. 2024, without logits that are never used
    "pi0-FAST": 2.92e9,  # PaliGemma's: Beyer et al. 2024
    "SmolVLA": 450e6,  # Shukor et al. 2025
}


def test_every_preset_has_a_row() -> None:
    assert {row.preset for row in ROWS.values()} == {find("policy", name) for name in members("policy")}


@pytest.mark.parametrize("suite", FIXTURES)
@pytest.mark.parametrize("name", ROWS)
def test_every_row_can_be_built_for_both_robots_and_reads_all_their_sentences(name: str, suite: str) -> None:
    fixture = FIXTURES[suite]
    played = make_suite(fixture.suite, fixture.flags, "kinema record")
    robot = played.spec
    recipe = Policies().recipe(suite, name, seed=0)
    assert recipe.train.seed == 0 and recipe.train.steps == ROWS[name].steps
    rng = np.random.default_rng(0)

    def chunks(chain: Chain) -> tuple[np.ndarray, np.ndarray]:
        shape = (64, recipe.policy.pred_horizon, robot.action.width)
        after, _ = chain.forward({"action": rng.normal(size=shape).astype(np.float32), **seen(64)})
        return after["action"], np.ones(shape[:2], bool)

    def seen(batch: int) -> dict[str, Any]:
        steps, texts = recipe.policy.obs_horizon, [f"do {row}" for row in range(batch)]
        image = {key: np.zeros((batch, steps, *robot.observation.shape(key)), np.uint8) for key in cameras}
        vector = np.zeros((batch, steps, *robot.observation.shape(f"vector.{fixture.state}")), np.float32)
        return {**image, f"vector.{fixture.state}": vector, "instruction": texts}

    cameras = [camera.key for camera in robot.observation.cameras]
    config = recipe.policy.fit(lambda before: statistics(robot, fixture.state), chunks)
    assert {f"image.{camera}" for camera in fixture.cameras} <= set(config.reads)
    with torch.device("meta"):
        network = Network(config, config.needs(robot))
    assert sum(parameter.numel() for parameter in network.parameters()) < 10e6
    tasks = [played.tasks[task] for task in fixture.tasks]
    texts = [text for task in tasks for text in (task.instruction, *task.paraphrases, *task.held_out)]
    sample, _ = Chain(config.transforms).forward({**seen(len(texts)), "instruction": texts})
    for encoder in config.encoders.values():
        if isinstance(encoder, Prompt):
            assert encoder.build(robot.observation, obs_horizon=1, width=8)(sample, None).mask.any(1).all()


def statistics(robot: Any, state: str) -> dict[str, dict[str, np.ndarray]]:
    """Return what every mode of normalisation takes."""
    values = {"mean": 0.0, "std": 1.0, "min": -1.0, "max": 1.0, "q01": -0.9, "q10": -0.8, "q90": 0.8, "q99": 0.9}
    widths = {f"vector.{state}": robot.observation.shape(f"vector.{state}")[0], "action": robot.action.width}
    return {
        key: {name: np.full(width, value) for name, value in {**values, "q50": 0.0}.items()}
        for key, width in widths.items()
    }


def test_results_have_published_sizes_and_say_what_is_not_measured(tmp_path: Path) -> None:
    run = Policies(work=tmp_path / "work", out=tmp_path, episodes=7)
    run.write()
    document = results.read(tmp_path / "policies.json")
    assert document["command"] == "python benchmarks/policies.py --episodes 7"
    assert list(document["figures"]) == list(ROWS)
    for name, row in document["figures"].items():
        assert all(row[suite] == {"unavailable": "not measured yet"} for suite in FIXTURES)
        assert ("unavailable" in row["published"]) == (ROWS[name].published is None), name
    for name, count in PUBLISHED.items():
        assert document["figures"][name]["published"]["value"] == pytest.approx(count, rel=0.02), name
    text = "\n".join(page_policies.tables({"policies": document}))
    assert "| RT-1 | 35.3 M | not measured yet |" in text and "| film-flow | none | not measured yet |" in text


def test_unknown_rows_and_suites_are_named_and_a_trial_is_kept_out_of_the_results(tmp_path: Path) -> None:
    with pytest.raises(KinemaError, match="unknown row 'SmolVLa'; did you mean 'SmolVLA'"):
        Policies(work=tmp_path, rows=("SmolVLa",)).run()
    with pytest.raises(KinemaError, match="unknown suite 'lang-reech'; did you mean 'lang-reach'"):
        Policies(work=tmp_path, suites=("lang-reech",)).run()
    with pytest.raises(KinemaError, match=r"--scale 0\.1 is for trying out"):
        Policies(work=tmp_path, scale=0.1).run()
    assert not list(tmp_path.iterdir())


def test_a_row_runs_from_the_recording_to_the_results_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policies, "ROWS", {name: ROWS[name] for name in ("film-flow", "ACT")})
    monkeypatch.setattr(policies, "CALLS", 2)
    run = Policies(
        work=tmp_path / "work",
        out=tmp_path,
        rows=("film-flow",),
        suites=("lang-reach",),
        seeds=1,
        episodes=1,
        controls=1,
        workers=1,
        scale=0.004,
    )
    assert run.run() == 0
    measured = results.read(tmp_path / "policies.json")["figures"]
    row = measured["film-flow"]["lang-reach"]
    assert row["success"]["n"] == row["wrong instruction"]["n"] == 3 and row["chunk"]["n"] == 2
    assert row["parameters"]["value"] > 1e6 and row["training"]["unit"] == "min"
    assert measured["film-flow"]["metaworld"] == measured["ACT"]["lang-reach"] == {"unavailable": "not measured yet"}
    names = ("weights.safetensors", "run.json", "eval.json", "latency.json")
    made = {path: path.stat().st_mtime_ns for name in names for path in (tmp_path / "work").rglob(name)}
    assert len(made) == len(names) and run.run() == 0
    assert {path: path.stat().st_mtime_ns for path in made} == made, "what is there is not made again"
    for changes, said in (({"scale": 0.02}, "episodes: 3, before 1"), ({"episodes": 2}, "episodes: 2, before 1")):
        with pytest.raises(KinemaError, match=said):
            replace(run, **changes).run()
    with pytest.raises(KinemaError, match=r"'steps': 12, .* before .*'steps': 6"):
        run.kept("lang-reach").measure("film-flow", 0, replace(run, scale=0.008).recipe("lang-reach", "film-flow", 0))


def test_the_table_says_what_the_file_says() -> None:
    text = page_policies.PAGE.read_text("utf-8")
    assert page_policies.page(text, results.read_all()) == text, "run `make benchmarks-page`"
    assert "not measured yet" in "\n".join(page_policies.tables({}))
    with pytest.raises(ValueError, match="lacks the marks"):
        page_policies.page("no marks", {})


def test_every_preset_is_on_the_page() -> None:
    text = page_policies.PAGE.read_text("utf-8")
    for name in members("policy"):
        assert text.count(f"`{name.replace('-', '_')}`") >= 2, f"{name}: when to take it, and what it is made of"


def test_what_the_page_composes_can_be_built() -> None:
    robot, made = make_suite("lang-reach", (), "kinema record").spec, {}
    for python in re.findall(r"```python\n(.*?)```", page_policies.PAGE.read_text("utf-8"), flags=re.DOTALL):
        exec(compile(python, "policies.md", "exec"), names := {})
        made |= {name: value for name, value in names.items() if isinstance(value, PolicyConfig)}
        made |= {name: names[name]().policy for name in ("reach",) if name in names}
    made["published"] = made.pop("policy")
    assert set(made) == {"reach", "flowing", "blind", "published"}
    for name, config in made.items():
        if name != "published":
            with torch.device("meta"):
                Network(config, config.needs(robot))
