"""What the doctor promises, over many seeds: `pytest -m slow tests/slow/test_doctor_recall.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_every_corruption_is_found_and_healthy_datasets_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import doctor_recall

    figures = doctor_recall.measure(tmp_path, seeds=20, clean=100)
    assert doctor_recall.broken_promises(figures) == []
    assert figures["false_alarms"]["n"] == 100
    assert all(
        entry["n"] == 20 for kind in ("structural", "content") for entry in figures[kind]["corruptions"].values()
    )
