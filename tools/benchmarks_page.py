"""Write docs/benchmarks.md from docs/results/*.json; a test checks that the page says what the files say.

python tools/benchmarks_page.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))  # scripts beside each other, not a package

import results  # noqa: E402
from mt10_rows import DESCRIPTIONS, MAIN, REFERENCE  # noqa: E402

from kinema.evaluation.intervals import percent  # noqa: E402

PAGE = ROOT / "docs" / "benchmarks.md"
Tree = Mapping[str, Any]
NOT_YET = "not measured yet"
CONTROLS = {
    "held-out-words": "instructions in words that were never trained on",
    "blind-camera": "every picture replaced by noise",
    "wrong-instruction": "told to do another task",
}
SPEED_PARTS = (
    "rendering/egl",
    "rendering/osmesa",
    "recording",
    *(f"{part}/{recipe}" for recipe in ("demo", "mt10") for part in ("training", "loading", "inference", "allocator")),
    "start-up",
)


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
    ]
    return "\n".join(lines).rstrip() + "\n"


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


def mt10(document: Tree | None) -> Iterator[str]:
    """Yield the lines about the success rates."""
    yield from (
        "## Meta-World MT10",
        "",
        "One policy for ten tasks, told in words which one to do. It sees three cameras and where its hand is, never",
        "the state of the objects. Brackets hold 95 % Wilson intervals, parentheses successes and attempts.",
        "",
    )
    if document is None:
        yield from (f"Everything in this section is {NOT_YET}.", "", *code("make bench-mt10"))
        return
    rows = document["figures"]["rows"]
    yield from code(document["command"])
    yield from main_row(document, rows[MAIN])
    yield from tasks_of(rows[MAIN])
    yield from ablations(rows)
    yield from data_of(document["data"])
    yield from source(document)


def main_row(document: Tree, row: Tree) -> Iterator[str]:
    """Yield the main run's headline and its controls."""
    yield from ("### The recipe", "")
    if row["status"] != "measured":
        yield from (f"The main row is {NOT_YET}.", "", *code(f"{document['command']} --rows {MAIN}"))
        return
    minutes = row["training_s"]["value"] / 60
    size = f"{row['parameters'] / 1e6:.1f} million parameters"
    yield from (
        f"**{share(row['mean'])}** mean success over {len(document['tasks'])} tasks, after {row['steps']} steps in "
        f"{minutes:.0f} minutes ({row['precision']}, {size}, cameras {', '.join(row['cameras'])}).",
        "",
    )
    controls = row.get("controls", {})
    found = [name for name in CONTROLS if name in controls]
    if found:
        yield from (
            "The controls play some of the same initial states. The rate under held-out words should stay; the blind",
            "ones should fall, or the tasks could be done without looking or listening.",
            "",
        )
        shown = [
            (name, CONTROLS[name], share(controls[name]["mean"]), versus(controls[name]["versus_policy"]))
            for name in found
        ]
        yield from table(("control", "what changes", "success", "p against the policy"), shown, left=2)
    lost = [name for name in CONTROLS if name not in controls]
    if lost:
        yield from (f"These controls are {NOT_YET}: {', '.join(lost)}.", "")


def versus(compared: Tree | None) -> str:
    """Return the adjusted p-value of a paired comparison with its n."""
    return f"{probability(compared['p_holm'])} (n = {compared['p_holm']['n']})" if compared else ""


def tasks_of(row: Tree) -> Iterator[str]:
    """Yield the rate of every task, beside those under the controls."""
    if row["status"] != "measured":
        return
    controls = {name: row["controls"][name] for name in CONTROLS if name in row.get("controls", {})}
    yield from ("### Each task", "", "Which tasks the recipe can do, and what is left of it under each control.", "")
    rows = [
        (task, share(figure), *(share(control["tasks"].get(task)) for control in controls.values()))
        for task, figure in row["tasks"].items()
    ]
    yield from table(("task", "success", *controls), rows)


def ablations(rows: Tree) -> Iterator[str]:
    """Yield the ablations, each beside the reference run."""
    steps = rows[REFERENCE]["steps"]
    yield from (
        "### What each part brings",
        "",
        f"Every row trains for {steps} steps, fewer than the recipe has, and differs from `{REFERENCE}` in one thing.",
        "*Won* and *lost* count the initial states that only this row or only the reference solved; p is the exact",
        "McNemar test on them, adjusted for the number of rows. A large p does not show that two rows are equal.",
        "",
    )
    header = ("row", "what it is", "cameras", "success", "won", "lost", "p", "training, min")
    measured, missing = [], []
    for name in (name for name in DESCRIPTIONS if name != MAIN):
        row = rows[name]
        if row["status"] != "measured":
            missing.append(name)
            continue
        compared = row.get("versus_reference")
        pair = (str(compared["only_second"]), str(compared["only_first"])) if compared else ("", "")
        cameras = ", ".join(row["cameras"])
        minutes = f"{row['training_s']['value'] / 60:.0f}"
        p = versus(compared)
        measured.append((f"`{name}`", row["description"], cameras, share(row["mean"]), *pair, p, minutes))
    yield from table(header, measured, left=3)
    if missing:
        listed = [f"- `{name}`: {rows[name]['description']}" for name in missing]
        yield from (f"These rows are {NOT_YET}:", "", *listed, "")


def data_of(data: Tree) -> Iterator[str]:
    """Yield what was trained on."""
    if "episodes" in data:
        yield from (
            f"Trained on {data['episodes']} demonstrations ({data['frames']} frames at {data['size']} px, noise "
            f"{data['noise']}, seed {data['seed']}) with the content hash `{data['content_hash'][:16]}`.",
            "",
        )


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


def part(figures: Tree, name: str) -> Tree:
    """Return the part called `name` of the speed figures, empty while it is missing."""
    group, _, member = name.partition("/")
    found = figures.get(group, {})
    return found.get(member, {}) if member else found


def speed(document: Tree | None) -> Iterator[str]:
    """Yield the lines about speed."""
    yield from ("## Speed and memory", "")
    if document is None:
        yield from (f"Everything in this section is {NOT_YET}.", "", *code("make bench"))
        return
    figures = document["figures"]
    yield from ("Values are medians; brackets hold the smallest and the largest of n measurements.", "")
    yield from code(document["command"])
    for section in (drawing, recording, training, loading, acting, starting, memory):
        yield from section(figures)
    missing = [name for name in SPEED_PARTS if not part(figures, name)]
    if missing:
        yield from (f"These parts are {NOT_YET}: {', '.join(missing)}.", "")
    yield from source(document)


def drawing(figures: Tree) -> Iterator[str]:
    """Yield the rendering speeds."""
    found = figures.get("rendering", {})
    if not found:
        return
    yield from (
        "### Rendering",
        "",
        "One camera's pictures a second. `fast`, the default, leaves out shadows, reflections, sky and multisampling;",
        "the last column is the ratio of the two qualities, measured in turns in one process.",
        "",
    )
    rows = []
    for backend, sizes in found.items():
        for size, entry in sizes.items():
            if size.isdigit():
                shown = (amount(entry[name]) for name in ("fast", "full", "ratio"))
                rows.append((backend, f"{size} px", *shown))
    yield from table(("backend", "size", "fast, frames/s", "full, frames/s", "fast / full"), rows, left=2)
    for backend, sizes in found.items():
        if "unavailable" in sizes:
            yield from (f"`{backend}` is not available on this machine: {sizes['unavailable']}.", "")


def recording(figures: Tree) -> Iterator[str]:
    """Yield the recording speed."""
    found = part(figures, "recording")
    if found:
        yield from (
            "### Recording",
            "",
            "How fast demonstrations come in: simulating, drawing, compressing and writing together.",
            "",
        )
        row = (found["task"], str(found["cameras"]), f"{found['size']} px", str(found["workers"]))
        header = ("task", "cameras", "size", "workers", "steps/s", "frames/s")
        yield from table(header, [(*row, amount(found["steps"]), amount(found["frames"]))])


def training(figures: Tree) -> Iterator[str]:
    """Yield the training speeds, and what keeping freed memory brings."""
    found = figures.get("training", {})
    if found:
        yield from (
            "### Training",
            "",
            "Samples a second of the whole training loop in both precisions, in turns in one process; `auto` chooses",
            "the one that is named.",
            "",
        )
        header = ("recipe", "batch", "auto", "fp32, samples/s", "bf16, samples/s", "bf16 / fp32")
        yield from table(
            header,
            [
                (
                    f"`{e['recipe']}`",
                    str(e["batch_size"]),
                    e["auto"],
                    *(amount(e[k]) for k in ("fp32", "bf16", "ratio")),
                )
                for e in found.values()
            ],
        )
    kept = figures.get("allocator", {})
    if kept:
        yield from (
            "What it brings to keep freed memory in the process (always on), each way in its own processes, in turns.",
            "",
        )
        header = ("recipe", "kept, samples/s", "given back, samples/s", "kept / given back")
        yield from table(
            header,
            [(f"`{e['recipe']}`", *(amount(e[k]) for k in ("kept", "returned", "ratio"))) for e in kept.values()],
        )


def loading(figures: Tree) -> Iterator[str]:
    """Yield the loader's speed."""
    found = figures.get("loading", {})
    if found:
        yield from ("### Loading", "", "Batches a second that the loader could prepare if nothing else ran.", "")
        rows = [(f"`{e['recipe']}`", str(e["batch_size"]), amount(e["batches"])) for e in found.values()]
        yield from table(("recipe", "batch", "batches/s"), rows)


def acting(figures: Tree) -> Iterator[str]:
    """Yield the inference times."""
    found = figures.get("inference", {})
    if not found:
        return
    yield from (
        "### Acting",
        "",
        "Milliseconds from raw observations to a chunk of actions in robot units; one call serves as many control",
        "steps as the policy executes of a chunk.",
        "",
    )
    rows = [
        (
            f"`{entry['recipe']}`",
            name.removeprefix("batch-"),
            str(entry["exec_horizon"]),
            *(number(figure[p]) for p in ("p50", "p95", "p99", "max")),
            str(figure["n"]),
        )
        for entry in found.values()
        for name, figure in entry.items()
        if name.startswith("batch-")
    ]
    yield from table(("recipe", "batch", "steps executed", "p50, ms", "p95, ms", "p99, ms", "largest, ms", "n"), rows)


def starting(figures: Tree) -> Iterator[str]:
    """Yield the start-up times."""
    found = figures.get("start-up", {})
    if found:
        yield from ("### Starting", "", "Milliseconds until a fresh interpreter has done it and ended.", "")
        rows = [
            (f"`{name}`" if "kinema" in name else name, number(e["min"]), number(e["median"]), str(e["n"]))
            for name, e in found.items()
            if isinstance(e, Mapping) and e.get("unit") == "ms"
        ]
        yield from table(("what", "best, ms", "median, ms", "n"), rows)


def memory(figures: Tree) -> Iterator[str]:
    """Yield the peak memory of every part."""
    rows = []
    for name in SPEED_PARTS:
        peak = part(figures, name).get("memory")
        if peak and not name.startswith("allocator"):
            child = amount(peak["largest child"]) if "largest child" in peak else ""
            rows.append((name, amount(peak["process"]), child))
    if rows:
        yield from (
            "### Memory",
            "",
            "The most memory that each of these measurements held, libraries included; each is one process, n = 1.",
            "",
        )
        yield from table(("part", "process, MiB", "its largest child, MiB"), rows)


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(results.read_all()), "utf-8")
    print(PAGE.relative_to(ROOT))


if __name__ == "__main__":
    main()
