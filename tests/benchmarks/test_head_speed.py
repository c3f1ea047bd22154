"""The speed of heads: rows that build on our side, figures and ratios by hand, and the page's section."""

from __future__ import annotations

from pathlib import Path

import benchmarks_page
import heads
import heads_kinema
import pytest
import results
import torch

from kinema.core.errors import KinemaError
from kinema.core.names import find, members

SMALL = {**heads.SIZES, "width": 16, "hidden": 8, "heads": 2, "channels": [8, 16, 16], "time_width": 8}
SMALL |= {"state": 8, "environment": 8, "pred_horizon": 4, "action_width": 2}
CHEAP = ("act", "diffusion", "vq_bet", "regression", "gmm", "categorical", "flow", "rectified", "per_embodiment")


def test_every_head_of_the_repository_has_a_row() -> None:
    kinds = {row.kind for row in heads.ROWS.values()}
    names = {name.replace("-", "_") for name in members("head")}
    assert names - {"cvae"} - set(heads.NOT_ALONE) <= kinds and "act" in kinds, "act is the policy with the cvae head"
    assert all(find("head", name)().goes_on for name in heads.NOT_ALONE)


@pytest.mark.parametrize("kind", CHEAP)
def test_rows_take_a_step_and_draw(kind: str) -> None:
    make = heads_kinema.act if kind == "act" else heads_kinema.alone
    subject = make(kind, SMALL, False)
    before = [parameter.detach().clone() for parameter in subject.module.parameters()]
    subject.step()
    assert any(not torch.equal(a, b) for a, b in zip(before, subject.module.parameters(), strict=True))
    subject.module.eval()
    assert subject.sample(3)().shape == (3, 4, 2)


def turn(step: float, *, broken: bool = False) -> dict:
    """Return what a side would say: parts around `step` milliseconds, samples twice and three times as long."""
    parts = [step - 1, step, step + 1]
    eager = {"step": parts, "sample 1": [2 * p for p in parts], "sample 64": [3 * p for p in parts]}
    return {"parameters": 1234, "modes": {"eager": eager, "compiled": {"broken": "no"} if broken else eager}}


def made_up() -> dict:
    ours, theirs = [turn(10), turn(20)], [turn(20, broken=True), turn(30, broken=True)]
    shared = {**heads.side(ours), "lerobot": heads.side(theirs), "ratio": heads.ratios(ours, theirs)}
    return {"ACT": shared, "flow": heads.side([turn(5)])}


def test_figures_are_medians_of_turns_and_ratios_are_within_a_round() -> None:
    figures = made_up()
    assert figures["ACT"]["eager"]["step"] == results.repeated([10, 20], "ms")
    assert figures["ACT"]["ratio"] == {
        "eager": {name: results.repeated([2.0, 1.5], "times as fast") for name in heads.MEASURES}
    }, "what does not compile on one side has no ratio"
    assert figures["flow"]["eager"]["step"]["n"] == 3, "one turn has the spread of its parts"


def test_the_section_shows_every_row(tmp_path: Path) -> None:
    versions = {"lerobot": "0.4.4"}
    path = results.write(
        "heads", made_up(), command="c", seeds=[0], directory=tmp_path, notes=["a note"], lerobot=versions, threads=2
    )
    text = benchmarks_page.page({"heads": results.read(path)})
    assert "| flow | 1,234 | 5 [4, 6] | 5 [4, 6] | 10 [8, 12] | 10 [8, 12] | 15 [12, 18] | 15 [12, 18] |" in text
    assert "| ACT | 1,234 | 1,234 | eager | 1.75 [1.5, 2] (n = 2) |" in text
    assert "Against lerobot 0.4.4." in text and "2 threads" in text and "- a note" in text


def test_wrong_rows_and_a_missing_environment_are_named(tmp_path: Path) -> None:
    with pytest.raises(KinemaError, match=r"nowhere is missing: sh benchmarks/lerobot_environment\.sh"):
        heads.Heads(lerobot=tmp_path / "nowhere").run()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    with pytest.raises(KinemaError, match="unknown row 'flwo'; did you mean 'flow'"):
        heads.Heads(lerobot=tmp_path, rows=("flwo",)).run()
