"""The page on actions: its Python runs, top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "actions.md"


def test_the_snippets_run_in_order() -> None:
    pytest.importorskip("mink")
    names: dict[str, object] = {}
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    assert len(snippets) == 7
    for snippet in snippets:
        exec(compile(snippet, str(PAGE), "exec"), names)
