"""The section of the benchmarks page on how fast action heads are, alone and against LeRobot's."""

from __future__ import annotations

from collections.abc import Iterator

from page_parts import NOT_YET, Tree, amount, code, number, source, table  # isort: skip

MODES = ("eager", "compiled")
MEASURES = {"step": "training step", "sample 1": "a chunk for 1", "sample 64": "chunks for 64"}


def head_speed(document: Tree | None) -> Iterator[str]:
    """Yield the lines about the speed of heads."""
    yield from ("## Action heads: training steps and latency", "")
    if document is None:
        commands = ("sh benchmarks/lerobot_environment.sh", "python benchmarks/heads.py")
        yield from (f"Everything in this section is {NOT_YET}.", "", *code(*commands))
        return
    rows = document["figures"]
    versions = ", ".join(f"{name} {version}" for name, version in document["lerobot"].items())
    yield from (
        "A training step is loss, gradient, clipping and optimiser for a batch of 64; acting is a chunk of 16 steps of",
        f"7 numbers for each of 1 and of 64 observations. float32, {document['threads']} threads, milliseconds.",
        "",
        *code("sh benchmarks/lerobot_environment.sh", document["command"]),
    )
    header = ["head", "parameters", *(f"{name}, {mode}" for name in MEASURES.values() for mode in MODES)]
    yield from table(header, [(name, *_row(row)) for name, row in rows.items()])
    yield from ("### The same networks in LeRobot", "")
    yield from (f"LeRobot's time over kinema's, within a round: above 1 kinema is faster. Against {versions}.", "")
    shared = {name: row for name, row in rows.items() if "ratio" in row}
    header = ["network", "parameters", "LeRobot's", "mode", *(f"{name}, times" for name in MEASURES.values())]
    yield from table(header, [cells for name, row in shared.items() for cells in _compared(name, row)])
    yield from source(document)


def _row(row: Tree) -> Iterator[str]:
    yield f"{row['parameters']['value']:,}"
    for name in MEASURES:
        for mode in MODES:
            yield _ms(row[mode][name]) if mode in row else ""


def _ms(figure: Tree) -> str:
    if "unavailable" in figure:
        return "not available"
    return f"{number(figure['value'])} [{number(figure['min'])}, {number(figure['max'])}]"


def _compared(name: str, row: Tree) -> Iterator[tuple[str, ...]]:
    counts = [f"{side['parameters']['value']:,}" for side in (row, row["lerobot"])]
    for mode, found in row["ratio"].items():
        yield (name, *counts, mode, *(amount(found[measure]) for measure in MEASURES))
