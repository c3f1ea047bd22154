"""The section of the benchmarks page on loading against LeRobot."""

from __future__ import annotations

from collections.abc import Iterator

from page_parts import NOT_YET, Tree, amount, code, number, source, table  # isort: skip


WAITS = ("p50_ms", "p99_ms", "first_ms", "resident_mib")


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
            ("loader", "epoch", "samples/s", "p50, ms", "p99, ms", "p99/p50", "first batch, ms", "memory, MiB"),
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
            p50, p99, first, memory = (
                found[name]["value"] for name in ("p50_ms", "p99_ms", "first_ms", "resident_mib")
            )
            speeds = [number(value) for value in (p50, p99, p99 / p50, first, memory)]
            yield (side, epoch.removeprefix("epoch "), amount(found["samples_per_s"]), *speeds)


def _setting(figure: Tree) -> str:
    return "not available" if "unavailable" in figure else f"{number(figure['value'])} samples/s"
