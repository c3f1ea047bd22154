"""What a run was trained on, with the runs that it began from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kinema.cli.trained import refuse_trained
from kinema.core.episode import Start
from kinema.core.errors import KinemaError


def trained(out: Path, seed: int, start: str | None = None) -> Path:
    out.mkdir()
    origins = [{"task": "push", "seed": seed, "episode": 0}]
    (out / "run.json").write_text(json.dumps({"data": {"origins": origins}}), "utf-8")
    (out / "data.json").write_text(json.dumps({"content_hash": ""} | ({"start": start} if start else {})), "utf-8")
    return out


def begun(seed: int) -> Start:
    return Start(task="push", seed=seed, episode=0)


def test_initial_states_of_every_base_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path / "first", 1)
    trained(tmp_path / "second", 2, "../first")
    third = trained(tmp_path / "third", 3, "../second")
    starts = {seed: [begun(seed), begun(9)] for seed in (1, 2, 3, 4)}
    refuse_trained(third, starts[4])
    with pytest.raises(KinemaError, match=r"1 of 2 initial states were trained on by .*third, such as"):
        refuse_trained(third, starts[3])
    for seed, base in ((2, "second"), (1, "first")):
        with pytest.raises(KinemaError, match=rf"trained on by .*{base}, from which .*third began, such as"):
            refuse_trained(third, starts[seed])
    assert capsys.readouterr().err == ""
    (tmp_path / "first").rename(tmp_path / "gone")
    refuse_trained(third, starts[1])
    assert "second began from" in (said := capsys.readouterr().err) and "first, which is gone" in said


def test_a_circle_of_starts_ends(tmp_path: Path) -> None:
    trained(tmp_path / "one", 1, "../two")
    two = trained(tmp_path / "two", 2, "../one")
    refuse_trained(two, [begun(3)])
    with pytest.raises(KinemaError, match="one, from which"):
        refuse_trained(two, [begun(1)])
