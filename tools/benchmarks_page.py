"""Write docs/benchmarks.md from docs/results/*.json; a test checks that the page says what the files say.

python tools/benchmarks_page.py
"""

from __future__ import annotations

from collections.abc import Mapping

from page_parts import ROOT, Tree  # isort: skip
from page_mt10 import mt10  # isort: skip
from page_speed import speed  # isort: skip
from page_loader import loader, others  # isort: skip
import results  # isort: skip

PAGE = ROOT / "docs" / "benchmarks.md"


def page(documents: Mapping[str, Tree]) -> str:
    """Return the page that shows `documents` (name -> content of its JSON file)."""
    lines = [
        "# Benchmarks",
        "",
        "What was measured, with n and an interval or a range beside every number, and the command that measures it",
        "again. This page is made by `tools/benchmarks_page.py` from what the benchmarks write; nothing is typed in.",
        "",
        *mt10(documents.get("metaworld_mt10")),
        *speed(documents.get("speed")),
        *loader(documents.get("loader")),
        *others(documents),
    ]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(results.read_all()), "utf-8")
    print(PAGE.relative_to(ROOT))


if __name__ == "__main__":
    main()
