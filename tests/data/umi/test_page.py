"""The page on UMI: its Python runs, top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kinema.core.config import load
from kinema.data.umi.rig import Rig

PAGE = Path(__file__).resolve().parents[3] / "docs" / "umi.md"


def test_the_snippets_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    assert len(snippets) == 4
    for snippet in snippets:
        exec(compile(snippet, str(PAGE), "exec"), names)
    assert isinstance(load(tmp_path / "rig.json"), Rig)
