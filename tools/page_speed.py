"""The section of the benchmarks page about speed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from page_parts import NOT_YET, Tree, amount, code, number, source, table

SPEED_PARTS = (
    "rendering/egl",
    "rendering/osmesa",
    "recording",
    *(f"{part}/{recipe}" for recipe in ("demo", "mt10") for part in ("training", "loading", "inference", "allocator")),
    "start-up",
)


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
