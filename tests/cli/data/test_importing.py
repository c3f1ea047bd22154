"""A foreign dataset becomes one of kinema: card, import, and going on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kinema.cli.main import main
from kinema.data.importers.lerobot import LeRobotSource
from kinema.data.lerobot.reader import open_dataset
from kinema.data.lerobot.versions import read_view

SOURCE = Path(__file__).parents[2] / "goldens" / "lerobot" / "v30_image"


def fill(path: Path) -> None:
    """Say what the card of `path` leaves open, as a person would."""
    card = json.loads(path.read_text())
    for vector in card["vectors"]:
        vector |= {"units": ["m"] * len(vector["units"]), "frame": "world"}
    said = {"units": ["m", "m"], "frame": "world", "kind": "delta", "integrator": "robot", "gripper": None}
    card["action"] |= {**said, "low": [-500.0, -500.0], "high": [500.0, 500.0]}
    path.write_text(json.dumps(card))


def test_card_then_import_then_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card, out = tmp_path / "card.json", tmp_path / "out"
    base = ["data", "import", "lerobot", str(SOURCE)]
    assert main([*base, "--card-out", str(card)]) == 0
    assert "vector 'proprioception': unit of x, y, z not said" in capsys.readouterr().out
    assert main([*base, "--card-out", str(card)]) == 2, "a card somebody filled in is not overwritten"
    assert main([*base, "--out", str(out)]) == 2
    complaint = capsys.readouterr().err
    assert "frame not said" in complaint and "--card-out card.json" in complaint and not out.exists()
    fill(card)
    assert main([*base, "--card", str(card), "--out", str(out), "--episodes", "0:2"]) == 0
    assert "2 episodes (2 new)" in capsys.readouterr().out
    assert main([*base, "--card", str(card), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "4 episodes (2 new)" in shown and "frames: 18 at 10 Hz" in shown and "cameras: front 32x48" in shown
    assert main([*base, "--card", str(card), "--out", str(out)]) == 0
    assert "4 episodes (0 new)" in capsys.readouterr().out
    corrected = json.loads(card.read_text())
    corrected["cameras"][0]["turned_deg"] = 180
    (tmp_path / "corrected.json").write_text(json.dumps(corrected))
    capsys.readouterr()
    assert main([*base, "--card", str(tmp_path / "corrected.json"), "--out", str(out)]) == 2
    assert f"{out} holds episodes of {SOURCE} made with another card" in capsys.readouterr().err
    dataset, source = open_dataset(out), LeRobotSource(read_view(SOURCE))
    assert np.array_equal(dataset.column("vector.proprioception"), source.column("observation.state"))
    assert np.array_equal(dataset.column("action"), source.column("action"))
    assert [episode.success for episode in dataset.episodes] == [True, True, False, True]
    assert list(dataset.instructions) == list(source.column("task"))
    assert dataset.provenance[0]["import"] == "lerobot" and dataset.provenance[0]["source"] == str(SOURCE)
    commands = [entry["command"] for entry in dataset.provenance]
    assert f"--card {card} --out {out} --episodes 0:2" in commands[0]
    images = np.concatenate([source.read(index).fields["observation.images.front"] for index in range(4)])
    error = (dataset.images("front").astype(float) - images) ** 2
    assert 10 * np.log10(255**2 / error.mean()) > 35


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give either --out for the dataset or --card-out"),
        (["--out", "x", "--episodes", "a:b"], "--episodes a:b: expected a number or a range such as 0:10"),
        (["--out", "x", "--episodes", "2:9"], "--episodes 2:9: there are episodes 0 to 3"),
    ],
)
def test_wrong_options(
    options: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    card = tmp_path / "card.json"
    assert main(["data", "import", "lerobot", str(SOURCE), "--card-out", str(card)]) == 0
    fill(card)
    assert main(["data", "import", "lerobot", str(SOURCE), "--card", str(card), *options]) == 2
    assert message in capsys.readouterr().err
    assert main(["data", "import", "lerobto", str(SOURCE), "--out", "x"]) == 2
    assert "did you mean 'lerobot'" in capsys.readouterr().err
