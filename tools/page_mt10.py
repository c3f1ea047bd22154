"""The section of the benchmarks page about Meta-World MT10."""

from __future__ import annotations

from collections.abc import Iterator

from page_parts import NOT_YET, Tree, code, probability, share, source, table  # isort: skip
from mt10_rows import DESCRIPTIONS, MAIN, REFERENCE  # isort: skip

CONTROLS = {
    "held-out-words": "instructions in words that were never trained on",
    "blind-camera": "every picture replaced by noise",
    "wrong-instruction": "told to do another task",
}


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
