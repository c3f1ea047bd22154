"""Item by item what LeRobot itself reads: see tests/goldens/make_lerobot.py."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from kinema.data.importers.lerobot import LeRobotSource
from kinema.data.lerobot.versions import read_view, stored_stats
from kinema.data.lerobot.whole import check_files

GOLDENS = Path(__file__).parents[2] / "goldens" / "lerobot"
NAMES = sorted(path.stem for path in GOLDENS.glob("*.npz"))


def test_there_are_goldens_of_old_and_new() -> None:
    assert {name.split("_")[0] for name in NAMES} == {"v21", "v30"}


@pytest.mark.parametrize("name", NAMES)
def test_every_item_is_what_lerobot_reads(name: str) -> None:
    with np.load(GOLDENS / f"{name}.npz", allow_pickle=False) as file:
        expected = dict(file)
    source = LeRobotSource(read_view(GOLDENS / name))
    check_files(source.view)
    assert [row.length for row in source.view.episodes] == [5, 3, 6, 4]
    assert source.successes == (True, True, False, True)
    episodes = [source.read(index).fields for index in range(len(source))]
    for key, values in expected.items():
        if key == "task":
            assert list(values) == list(source.column("task"))
            continue
        field = key.removeprefix("frames/")
        found = np.concatenate([episode[field] for episode in episodes])
        if key.startswith("frames/"):
            assert np.array_equal(found, values), key
        else:
            # LeRobot hands out float64 columns as float32.
            assert np.array_equal(found.reshape(values.shape).astype(values.dtype), values), key


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("v21")])
def test_v20_differs_in_its_statistics(name: str, tmp_path: Path) -> None:
    root = tmp_path / name
    shutil.copytree(GOLDENS / name, root)
    assert len(stored_stats(read_view(root))) == 4
    (root / "meta/episodes_stats.jsonl").unlink()
    (root / "meta/stats.json").write_text('{"action": {"max": [1.0, 2.0]}}')
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps(info | {"codebase_version": "v2.0"}))
    view = read_view(root)
    assert view.version == "v2.0" and stored_stats(view) == ({"action": {"max": [1.0, 2.0]}},)
    assert root / "meta/stats.json" in view.files


def test_lerobot_read_what_kinema_wrote() -> None:
    facts = json.loads((GOLDENS.parent / "lerobot_reads_kinema.json").read_text())
    assert facts["items"] == 20 and facts["stats_loaded"] and facts["versions"]["lerobot"] == "0.4.4"
    assert set(facts["largest_difference"].values()) == {0.0}, "pixels, numbers, capture times and tasks alike"
