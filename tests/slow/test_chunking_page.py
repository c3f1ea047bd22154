"""The table of docs/chunking.md is what its program prints."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from moving_goal import table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "chunking.md"


@pytest.mark.slow
def test_the_table_is_what_is_measured() -> None:
    assert table() in PAGE.read_text("utf-8")
