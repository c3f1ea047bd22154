"""The page on statistics: its Python runs, top to bottom, and its table is what is computed."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "statistics.md"


def test_the_snippets_run_in_order() -> None:
    names: dict[str, object] = {}
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    assert len(snippets) == 10
    for snippet in snippets:
        exec(compile(snippet, str(PAGE), "exec"), names)
