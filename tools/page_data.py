"""The sections of the benchmarks page on datasets: recording, scale, the doctor, generation, and what else there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from page_parts import Tree, amount, code, number, probability, share, source, table  # isort: skip


def data(documents: Mapping[str, Tree]) -> Iterator[str]:
    """Yield a section for each of the files on data that exists."""
    for name, (title, lines) in SECTIONS.items():
        if name in documents:
            document = documents[name]
            yield from (f"## {title}", "", *code(document["command"]), *lines(document["figures"]), *source(document))


def scale(figures: Tree) -> Iterator[str]:
    """Yield what an episode costs at each size, in milliseconds."""
    costs = list(dict.fromkeys(name for size in figures.values() for name in size if name != "compaction"))
    header = ("dataset", *(f"{name.replace('_', ' ')}, ms" for name in costs))
    yield from table(header, [(size, *(_ms(found.get(name)) for name in costs)) for size, found in figures.items()])


def _ms(figure: Tree | None) -> str:
    if figure is None:
        return ""
    return f"{number(1e3 * figure['value'])} [{number(1e3 * figure['min'])}, {number(1e3 * figure['max'])}]"


def doctor(figures: Tree) -> Iterator[str]:
    """Yield recall by kind, false alarms, and the corruptions that were missed at least once."""
    rows = [(f"{kind} corruptions found", share(figures[kind]["all"])) for kind in ("structural", "content")]
    yield from table(("what", "share"), [*rows, ("clean datasets with a false alarm", share(figures["false_alarms"]))])
    corruptions = {
        name: rate for kind in ("structural", "content") for name, rate in figures[kind]["corruptions"].items()
    }
    missed = [f"{name} {share(rate)}" for name, rate in corruptions.items() if rate["successes"] < rate["n"]]
    fewest = min(rate["n"] for rate in corruptions.values())
    yield from (f"{len(corruptions)} kinds of corruption, at least {fewest} datasets each.", "")
    yield from (f"Not always found: {'; '.join(missed) or 'none'}.", "")


def mimicgen(figures: Tree) -> Iterator[str]:
    """Yield how often generation succeeds and what the policies gain."""
    gain = {**figures["gain"], **{end: 100 * figures["gain"][end] for end in ("value", "min", "max")}}
    yield from (f"Attempts at a new demonstration that succeed: {share(figures['generation'])}.", "")
    yield from (f"Gain in success by training on the generated ones, over seeds: {amount(gain)} points.", "")
    rows = [
        (seed, share(found["few"]), share(found["many"]), probability(found["p"]))
        for seed, found in figures["seeds"].items()
    ]
    yield from table(("training seed", "recorded only", "with generated", "p"), rows)


def everything(figures: Tree) -> Iterator[str]:
    """Yield every figure as it is."""
    yield from table(("what", "value", "unit"), list(_figures(figures, "")))


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


SECTIONS: Mapping[str, tuple[str, Callable[[Tree], Iterator[str]]]] = {
    "recorder_kill": ("Recording that is killed", everything),
    "data_scale": ("Large datasets", scale),
    "doctor_recall": ("Damage that the doctor finds", doctor),
    "mimicgen": ("Demonstrations generated from few", mimicgen),
    "feature_cache": ("Features of frozen encoders, cached", everything),
}
"""Title and lines of each section, by the name of its file."""
