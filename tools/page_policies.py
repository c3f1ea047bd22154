"""The table of docs/policies.md, from docs/results/policies.json.

The text around it is written by hand; a test checks that the table says what the file says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from page_parts import NOT_YET, ROOT, Tree, number, share, source, table  # isort: skip

PAGE = ROOT / "docs" / "policies.md"
BEGIN, END = "<!-- table: made by tools/page_policies.py -->", "<!-- end of the table -->"
POLICIES = "policies"
SUITES = ("lang-reach", "metaworld")
TITLES = ("published size", "size here", "Lang-Reach", "told another task", "MW-3", "training, min", "a chunk, ms")


def page(text: str, documents: Mapping[str, Tree]) -> str:
    """Return `text`, the page so far, with the table of `documents` between its two marks."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{PAGE.name} lacks the marks {BEGIN!r} and {END!r}")
    return before + "\n".join([BEGIN, "", *tables(documents), END]) + after


def tables(documents: Mapping[str, Tree]) -> Iterator[str]:
    """Yield the lines between the marks."""
    document = documents.get(POLICIES)
    if document is None:
        yield from (f"Everything in this table is {NOT_YET}.", "")
        return
    yield from table(("preset", *TITLES), [_row(name, row) for name, row in document["figures"].items()])
    yield from ("Size, minutes and milliseconds are those of Lang-Reach where it is measured, else those of MW-3.", "")
    yield from ("`" + document["command"] + "`", "", *source(document))


def _row(name: str, row: Tree) -> tuple[str, ...]:
    reach, meta = (row[suite] for suite in SUITES)
    told = reach.get("wrong instruction", {"unavailable": NOT_YET})
    first = next((suite for suite in (reach, meta) if "success" in suite), None)
    costs = (NOT_YET,) * 3
    if first is not None:
        costs = (size(first["parameters"]), *(number(first[cost]["value"]) for cost in ("training", "chunk")))
    return (
        name,
        size(row["published"]),
        costs[0],
        share(reach.get("success")),
        told["unavailable"] if "unavailable" in told else share(told),
        share(meta.get("success")),
        *costs[1:],
    )


def size(figure: Tree) -> str:
    """Return a number of parameters in millions or billions."""
    if "unavailable" in figure:
        return "none"
    value = figure["value"]
    return f"{value / 1e9:.2f} B" if value >= 1e9 else f"{value / 1e6:.3g} M"


def main(documents: Mapping[str, Tree]) -> None:
    """Write the page."""
    PAGE.write_text(page(PAGE.read_text("utf-8"), documents), "utf-8")
    print(PAGE.relative_to(ROOT))
