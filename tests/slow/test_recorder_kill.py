"""200 killed recorders: no committed episode lost, reopened in less than two seconds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = str(Path(__file__).resolve().parents[2] / "benchmarks")
if BENCHMARKS not in sys.path:
    sys.path.insert(0, BENCHMARKS)

from recorder_kill import kills  # noqa: E402


@pytest.mark.slow
def test_killed_recorders(tmp_path: Path) -> None:
    tally = kills(200, tmp_path)
    assert tally.lost == 0 and tally.committed >= 100
    assert max(tally.recovery_s) < 2
