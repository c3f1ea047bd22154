"""The tables of docs/heads.md, from docs/results/heads_fork.json and heads_metaworld.json.

The text around them is written by hand; a test checks that the tables say what the files say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from page_parts import NOT_YET, ROOT, Tree, amount, number, probability, share, source, table  # isort: skip
from kinema.evaluation.intervals import percent  # isort: skip

PAGE = ROOT / "docs" / "heads.md"
BEGIN, END = "<!-- tables: made by tools/page_heads.py -->", "<!-- end of the tables -->"
FORK, METAWORLD = "heads_fork", "heads_metaworld"


def page(text: str, documents: Mapping[str, Tree]) -> str:
    """Return `text`, the page so far, with the tables of `documents` between its two marks."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{PAGE.name} lacks the marks {BEGIN!r} and {END!r}")
    return before + "\n".join([BEGIN, "", *tables(documents), END]) + after


def tables(documents: Mapping[str, Tree]) -> Iterator[str]:
    """Yield the lines between the marks."""
    fork, metaworld = documents.get(FORK), documents.get(METAWORLD)
    if fork is None and metaworld is None:
        yield from (f"Everything in this section is {NOT_YET}.", "")
        return
    on_fork, on_metaworld = (document["figures"] if document else {} for document in (fork, metaworld))
    systems = [name for name, row in on_fork.items() if _shown(row) and row["kind"] == "system"]
    even = {on_fork[name]["head"] for name in systems if on_fork[name]["fork"] == "50:50"}
    names = [name for name in systems if on_fork[name]["fork"] == "50:50" or on_fork[name]["head"] not in even]
    names += [name for name, row in on_metaworld.items() if "success" in row and name not in names]
    header = ("head", *(f"Fork: {what}" for what in ("rarer side", "invalid", "ms a chunk", "parameters")),
              "MW-3: success")  # fmt: skip
    yield from table(header, [_overview(name, on_fork.get(name), on_metaworld.get(name)) for name in names])
    missing = [(name, row["unavailable"]) for rows in (on_fork, on_metaworld) for name, row in rows.items()
               if "unavailable" in row]  # fmt: skip
    yield from (f"- {name}: {reason}." for name, reason in missing)
    yield from ("",) if missing else ()
    if fork is not None:
        yield from ("### Systems, their ablations and their gates", "")
        header = ("head", "fork", "left", "right", "invalid", "gates")
        yield from table(header, [_gated(name, row) for name, row in on_fork.items() if _shown(row)], left=2)
        yield from ("`" + fork["command"] + "`", "", *source(fork))
    if metaworld is not None:
        yield from ("### MW-3, task by task", "")
        yield from _by_task(metaworld)
        yield from ("`" + metaworld["command"] + "`", "", *source(metaworld))


def _shown(row: Tree) -> bool:
    return "unavailable" not in row


def _overview(name: str, fork: Tree | None, metaworld: Tree | None) -> tuple[str, ...]:
    success = metaworld.get("success") if metaworld else None
    if fork is None or not _shown(fork):
        return (name, *(NOT_YET,) * 4, share(success))
    cover, invalid = fork["cover"], fork["invalid"]
    return (
        name,
        f"{percent(cover['value'])} % [{percent(cover['min'])}, {percent(cover['max'])}]",
        f"{percent(invalid['value'])} % [{percent(invalid['low'])}, {percent(invalid['high'])}]",
        number(fork["sample"]["value"]),
        f"{fork['parameters']['value']:,}",
        share(success),
    )


def _gated(name: str, row: Tree) -> tuple[str, ...]:
    gates = [gate if said == "holds" else f"**{gate}: {said}**" for gate, said in row["gates"].items()]
    ablation = " (ablation)" if row["kind"] == "ablation" else ""
    return (
        name + ablation,
        row["fork"],
        *(f"{percent(row[side]['value'])} %" for side in ("left", "right")),
        share(row["invalid"]),
        "; ".join(gates) or "none",
    )


def _by_task(document: Tree) -> Iterator[str]:
    rows = [
        (
            name,
            *(share(rate) for rate in row["tasks"].values()),
            probability(row.get("p")),
            f"{row['parameters']['value']:,}",
            amount(row["training"]),
        )
        for name, row in document["figures"].items()
        if _shown(row)
    ]
    yield from table(("head", *document["tasks"], "p", "parameters", "training, s"), rows)


def main(documents: Mapping[str, Tree]) -> None:
    """Write the page."""
    PAGE.write_text(page(PAGE.read_text("utf-8"), documents), "utf-8")
    print(PAGE.relative_to(ROOT))
