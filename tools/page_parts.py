"""Pieces of Markdown that all sections of the benchmarks page use, and where the page and its sources are."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))  # scripts beside each other, not a package

from kinema.evaluation.intervals import percent  # noqa: E402

Tree = Mapping[str, Any]
NOT_YET = "not measured yet"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> list[str]:
    """Return a Markdown table whose first `left` columns are text and the others numbers."""
    if not rows:
        return []
    rule = ["---" if index < left else "---:" for index in range(len(header))]
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)] + [""]


def code(*commands: str) -> list[str]:
    """Return the commands as a block to copy."""
    return ["```sh", *commands, "```", ""]


def source(document: Tree) -> list[str]:
    """Return where, when and with what a document was measured."""
    chosen = ("kinema", "python", "torch", "mujoco", "metaworld")
    versions = ", ".join(f"{name} {document['versions'][name]}" for name in chosen if name in document["versions"])
    path = f"docs/results/{document['name']}.json"
    return [
        f"Written {document['date'][:10]} on {document['cores']} cores of {document['cpu']}; {versions}. "
        f"All numbers: [`{path}`](results/{document['name']}.json).",
        "",
        *(f"- {note}" for note in document["notes"]),
        "",
    ]


def share(figure: Tree | None) -> str:
    """Return a rate as per cent with its interval and n."""
    if not figure:
        return NOT_YET
    ends = f"{percent(figure['low'])}, {percent(figure['high'])}"
    return f"{percent(figure['value'])} % [{ends}] ({figure['successes']}/{figure['n']})"


def probability(figure: Tree | None) -> str:
    """Return a p-value to two significant digits, very small ones as a bound."""
    if not figure:
        return ""
    return "< 0.0001" if figure["value"] < 1e-4 else f"{figure['value']:.2g}"


def amount(figure: Tree | None, *, spread: bool = True) -> str:
    """Return a measured amount with its range and n."""
    if not figure:
        return NOT_YET
    if figure["n"] == 1 or not spread:
        return number(figure["value"])
    return f"{number(figure['value'])} [{number(figure['min'])}, {number(figure['max'])}] (n = {figure['n']})"


def number(value: float) -> str:
    """Return three significant digits, whole numbers from 100 on."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
