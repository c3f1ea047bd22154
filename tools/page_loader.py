"""The sections on data of the benchmarks page: the loader against LeRobot's, and what else was measured on datasets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from page_parts import NOT_YET, Tree, amount, code, number, source, table  # isort: skip

OTHERS = {
    "recorder_kill": "Recording that is killed",
    "data_scale": "Large datasets",
    "doctor_recall": "Damage that the doctor finds",
    "lerobot_interoperability": "Datasets shared with LeRobot",
}
"""Sections that show every figure of a file as it is, by the name of the file."""


def loader(document: Tree | None) -> Iterator[str]:
    """Yield the lines about the loader."""
    yield from ("## Loading against LeRobot", "")
    if document is None:
        commands = ("sh benchmarks/lerobot_environment.sh", "python benchmarks/loader.py")
        yield from (f"Everything in this section is {NOT_YET}.", "", *code(*commands))
        return
    versions = ", ".join(f"{name} {version}" for name, version in document["lerobot"].items())
    yield from (
        "The same dataset files, windows (two steps of observation, 16 of action), order and batches for both, whose",
        "items were compared bit by bit. LeRobot has its best setting; both take turns, each in new processes. The",
        "first epoch begins with nothing decoded and cold files; the second is the next in the same process. Streaming",
        "keeps decoded frames in 256 MiB of memory and writes none to disk.",
        "",
        *code("sh benchmarks/lerobot_environment.sh", document["command"]),
    )
    datasets = document["figures"]
    ratios = ("first epoch ratio", "cached epoch ratio", "streaming ratio")
    rows = [
        (name, f"{data['identical items']['value']}/{data['identical items']['n']}", *(amount(data[r]) for r in ratios))
        for name, data in datasets.items()
    ]
    yield from table(
        ("dataset", "identical items", "first epoch, times", "later epochs, times", "streaming, times"), rows
    )
    for name, data in datasets.items():
        yield from (f"### {name}", "", f"{data['frames']} frames, batches of {data['batch_size']}.", "")
        yield from table(
            ("loader", "epoch", "samples/s", "p50, ms", "p99, ms", "first batch, ms", "memory, MiB"),
            list(_sides(data)),
            left=2,
        )
        settings = data["lerobot settings"].items()
        tried = [f"{setting}: {_setting(figure)}" for setting, figure in settings]
        yield from (f"LeRobot's settings, one epoch each: {'; '.join(tried)}. Taken: {data['lerobot setting']}.", "")
    yield from (f"Measured against {versions}.", "", *source(document))


def _sides(data: Tree) -> Iterator[tuple[str, ...]]:
    for side in ("kinema", "kinema streaming", "lerobot"):
        for epoch, found in data[side].items():
            speeds = [number(found[name]["value"]) for name in ("p50_ms", "p99_ms", "first_ms", "resident_mib")]
            yield (side, epoch.removeprefix("epoch "), amount(found["samples_per_s"]), *speeds)


def _setting(figure: Tree) -> str:
    return "not available" if "unavailable" in figure else f"{number(figure['value'])} samples/s"


def others(documents: Mapping[str, Tree]) -> Iterator[str]:
    """Yield a section for each of the other files on data that exists."""
    for name, title in OTHERS.items():
        if name not in documents:
            continue
        document = documents[name]
        yield from (f"## {title}", "", *code(document["command"]))
        yield from table(("what", "value", "unit"), list(_figures(document["figures"], "")))
        yield from source(document)


def _figures(node: Tree, path: str) -> Iterator[tuple[str, str, str]]:
    for name, child in node.items():
        where = f"{path}, {name}" if path else str(name)
        if not isinstance(child, Mapping):
            yield where, _cell(child), ""
        elif "unavailable" in child:
            yield where, f"not available: {_cell(child['unavailable'])}", ""
        elif "unit" in child:
            yield where, _value(child), child["unit"]
        else:
            yield from _figures(child, where)


def _value(figure: Tree) -> str:
    if "low" in figure:
        return f"{number(figure['value'])} [{number(figure['low'])}, {number(figure['high'])}] (n = {figure['n']})"
    if "min" in figure:
        return amount(figure)
    return number(figure["value"]) + (f" (n = {figure['n']})" if figure["n"] > 1 else "")


def _cell(value: object) -> str:
    shown = ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)
    return shown.replace("|", "/").replace("\n", " ")
