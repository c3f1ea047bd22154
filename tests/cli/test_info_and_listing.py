"""`kinema info` reads what runs and datasets say about themselves; `kinema list` shows what is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kinema.cli.info import describe
from kinema.cli.listing import PLURALS, described
from kinema.cli.main import main
from kinema.core.errors import KinemaError
from kinema.core.names import PACKAGES, members


def written(path: Path, data: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), "utf-8")
    return path


def dataset(folder: Path) -> Path:
    features = {
        "observation.state": {"dtype": "float32", "shape": [2], "names": ["x", "gripper"]},
        "observation.images.wrist": {"dtype": "video", "shape": [64, 64, 3], "names": None},
    }
    info = {
        "codebase_version": "v3.0",
        "fps": 80,
        "total_episodes": 3,
        "features": features,
        "splits": {"train": "0:3"},
    }
    written(folder / "meta" / "info.json", info)
    return folder


def test_a_run_is_described_by_its_run_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "run.json", {"result": {"steps": 9, "tags": ["a", "b"]}, "rows": [{"x": 1}, {}], "empty": []})
    ((title, rows),) = describe(tmp_path)
    assert title == f"run {tmp_path}"
    assert rows == [("result.steps", "9"), ("result.tags", "a, b"), ("rows", "2 entries"), ("empty", "none")]
    assert main(["info", str(tmp_path)]) == 0
    assert "result.steps" in capsys.readouterr().out


def test_a_dataset_shows_facts_features_and_what_kinema_recorded(tmp_path: Path) -> None:
    written(dataset(tmp_path) / "meta" / "kinema.json", {"suite": "metaworld"})
    shown = dict(describe(tmp_path))
    assert ("splits.train", "0:3") in shown[f"dataset {tmp_path}"]
    assert ("observation.state", "float32 2: x, gripper") in shown["features"]
    assert ("observation.images.wrist", "video 64x64x3") in shown["features"]
    assert shown["recorded by kinema"] == [("suite", "metaworld")]


def test_a_dataset_from_elsewhere_needs_no_kinema_json(tmp_path: Path) -> None:
    assert [title for title, _ in describe(dataset(tmp_path))] == [f"dataset {tmp_path}", "features"]


def test_long_entries_are_shortened_and_counted(tmp_path: Path) -> None:
    written(tmp_path / "run.json", {"text": "x" * 500, **{f"fact{i}": i for i in range(60)}})
    ((_, rows),) = describe(tmp_path)
    assert len(rows[0][1]) == 100
    assert rows[-1] == ("...", "and 21 more entries in the file")


def test_a_directory_that_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KinemaError, match=r"neither a run \(no run.json\) nor a dataset \(no meta/info.json\)"):
        describe(tmp_path)


def test_a_missing_directory_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    with pytest.raises(KinemaError, match="did you mean 'first'"):
        describe(tmp_path / "frist")


@pytest.mark.parametrize("text", ["{", "[1]", "\x00"])
def test_a_damaged_file_is_named(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.json").write_text(text, "utf-8")
    assert main(["info", str(tmp_path)]) == 2
    assert "run.json" in capsys.readouterr().err


def test_list_shows_every_kind_and_member(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    for plural, kind in PLURALS.items():
        assert f"{plural}\n" in shown
        assert all(f"  {name} " in shown for name in members(kind))


@pytest.mark.parametrize("kind", PACKAGES)
def test_every_member_says_what_it_is_in_one_line(kind: str) -> None:
    for name, about in described(kind):
        assert about.endswith("."), f"{kind} {name}: {about!r}"
        assert len(about) <= 160, f"{kind} {name}: {len(about)} characters"


def test_list_of_an_unknown_kind_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "polices"]) == 2
    assert "did you mean 'policies'?" in capsys.readouterr().err
