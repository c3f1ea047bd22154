"""docs/chunking.md: its Python runs, and says what it promises."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kinema.core.names import members

PAGE = Path(__file__).resolve().parents[3] / "docs" / "chunking.md"


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    [example] = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(example, str(PAGE), "exec"), names)
    # By hand: to 0.5; 2 and 1.5 weigh 1 and exp(-0.01): to 1.12562; 3, 2.5 and 2.12562 likewise: to 1.83521.
    assert names["x"].item() == pytest.approx(1.83521, abs=1e-5)
    assert capsys.readouterr().out


def test_every_rule_stands_in_the_table() -> None:
    text = PAGE.read_text("utf-8")
    assert [name for name in members("chunking") if f"| `{name}` |" not in text] == []
