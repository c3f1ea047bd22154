"""Write docs/benchmarks.md, and the tables of docs/heads.md and docs/policies.md, from docs/results/*.json.

Tests check that they agree.

python tools/benchmarks_page.py
"""

from __future__ import annotations

from collections.abc import Mapping

from page_parts import ROOT, Tree  # isort: skip
from page_mt10 import mt10  # isort: skip
from page_speed import speed  # isort: skip
from page_data import data  # isort: skip
from page_loader import loader  # isort: skip
from page_head_speed import head_speed  # isort: skip
import page_heads  # isort: skip
import page_policies  # isort: skip
import results  # isort: skip

PAGE = ROOT / "docs" / "benchmarks.md"


def page(documents: Mapping[str, Tree]) -> str:
    """Return the page that shows `documents` (name -> content of its JSON file)."""
    lines = [
        "# Benchmarks",
        "",
        "What was measured, with n and an interval or a range beside every number, and the command that measures it",
        "again. This page is made by `tools/benchmarks_page.py` from what the benchmarks write; nothing is typed in.",
        "Action heads and whole policies have pages of their own: [heads.md](heads.md), [policies.md](policies.md).",
        "",
        *mt10(documents.get("metaworld_mt10")),
        *speed(documents.get("speed")),
        *loader(documents.get("loader")),
        *head_speed(documents.get("heads")),
        *data(documents),
    ]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Write the pages."""
    documents = results.read_all()
    PAGE.write_text(page(documents), "utf-8")
    print(PAGE.relative_to(ROOT))
    page_heads.main(documents)
    page_policies.main(documents)


if __name__ == "__main__":
    main()
