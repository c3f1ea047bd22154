"""The files in docs/results: what was measured, how often, how much it varied, where, when and by which command.

A *figure* is a mapping with `value`, `unit` and `n`; beside them a rate has the ends `low` and `high` of its 95 %
interval, a repeated measurement `min`, `median` and `max`. What could not be measured says so under `unavailable`.
Figures lie in a tree of names; what else lies there is a fact that is set, not measured: a number of steps, a camera.
"""

from __future__ import annotations

import json
import math
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kinema.core.errors import KinemaError
from kinema.core.files import write_text
from kinema.core.manifest import cores, now, versions
from kinema.evaluation.intervals import MeanRate, Rate, rate_entry

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
SCHEMA = 1
KEYS = ("schema", "name", "command", "date", "cores", "cpu", "versions", "seeds", "notes", "figures")
SPREADS = (("low", "high"), ("min", "median", "max"))
WITHOUT_SPREAD = ("p-value", "count")
"""Units of what is computed from all `n` at once, so that there is no spread to tell."""


def repeated(samples: Sequence[float], unit: str, **more: float) -> dict[str, Any]:
    """Return the figure of something measured `len(samples)` times: its median, smallest and largest."""
    if not samples:
        raise KinemaError(f"no samples to make a figure in {unit} of")
    middle = statistics.median(samples)
    ends = {"min": min(samples), "median": middle, "max": max(samples)}
    return {"value": middle, "unit": unit, "n": len(samples), **ends, **more}


def rate(measured: Rate | MeanRate) -> dict[str, Any]:
    """Return the figure of a success rate with its 95 % Wilson interval."""
    entry = dict(rate_entry(measured))
    return {"value": entry.pop("rate"), "unit": "success rate", **entry}


def once(value: float, unit: str, *, n: int = 1) -> dict[str, Any]:
    """Return the figure of something measured once, or computed from `n` things together."""
    return {"value": value, "unit": unit, "n": n}


def unavailable(reason: str) -> dict[str, Any]:
    """Return the figure of what this machine cannot do."""
    return {"unavailable": reason}


def cpu_model() -> str:
    """Return what the processor calls itself."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """Return what a number depends on besides the code: cores, processor and versions."""
    return {"cores": cores(), "cpu": cpu_model(), "versions": versions()}


def write(
    name: str,
    figures: Mapping[str, Any],
    *,
    command: str,
    seeds: Sequence[int],
    notes: Sequence[str] = (),
    directory: Path = RESULTS,
    **summary: Any,
) -> Path:
    """Return the path of `directory/NAME.json`, written in one step; `summary` adds entries at the top."""
    document = {
        "schema": SCHEMA,
        "name": name,
        **summary,
        "command": command,
        "date": now(),
        **machine(),
        "seeds": list(seeds),
        "notes": list(notes),
        "figures": dict(figures),
    }
    check(document, where=name)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.json"
    write_text(path, json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def read(path: Path) -> dict[str, Any]:
    """Return the document stored at `path`; one that does not keep to the schema is a KinemaError."""
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise KinemaError(f"cannot read {path}: {error}") from error
    check(document, where=str(path))
    if document["name"] != path.stem:
        raise KinemaError(f"{path}: is called {document['name']!r}, expected {path.stem!r}")
    return document


def read_all(directory: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Return all documents of `directory` by name."""
    return {path.stem: read(path) for path in sorted(directory.glob("*.json"))}


def check(document: Any, *, where: str) -> None:
    """Raise KinemaError unless `document` keeps to the schema."""
    if not isinstance(document, dict):
        raise KinemaError(f"{where}: expected an object, found {type(document).__name__}")
    missing = [key for key in KEYS if key not in document]
    if missing:
        raise KinemaError(f"{where}: {', '.join(missing)} missing")
    if document["schema"] != SCHEMA:
        raise KinemaError(f"{where}: schema {document['schema']!r}, expected {SCHEMA}")
    if not isinstance(document["figures"], dict):
        raise KinemaError(f"{where}: figures must be an object")
    _check_tree(document["figures"], f"{where}: figures")


def _check_tree(node: Any, where: str) -> None:
    if isinstance(node, float):
        raise KinemaError(f"{where} is the bare number {node}: a figure has a value, a unit and an n")
    if not isinstance(node, dict) or "unavailable" in node:
        return
    if "unit" in node or "value" in node:
        _check_figure(node, where)
        return
    for name, child in node.items():
        _check_tree(child, f"{where}.{name}")


def _check_figure(figure: Mapping[str, Any], where: str) -> None:
    value, n = figure.get("value"), figure.get("n")
    if not isinstance(figure.get("unit"), str) or isinstance(value, bool) or not isinstance(value, (int, float)):
        raise KinemaError(f"{where}: value {value!r} in {figure.get('unit')!r}: expected a number in a unit")
    if not math.isfinite(value) or not isinstance(n, int) or n < 1:
        raise KinemaError(f"{where}: value {value!r} of n {n!r}: expected a finite number and at least 1")
    spread = next((names for names in SPREADS if all(name in figure for name in names)), None)
    if spread is None and n > 1 and figure["unit"] not in WITHOUT_SPREAD:
        raise KinemaError(f"{where}: n is {n}, so low and high, or min, median and max must be there")
    ends = [figure[name] for name in spread or ()]
    if ends != sorted(ends) or (ends and not ends[0] <= value <= ends[-1]):
        raise KinemaError(f"{where}: {value!r} is not between {ends}")


def main(kind: type[Any], arguments: list[str], *, prog: str) -> int:
    """Return the exit code of the benchmark `kind`, a dataclass of options with `run() -> int`, for `arguments`."""
    from kinema.cli.parsing import parse

    try:
        return int(parse(kind, arguments, prog=prog).run())
    except KinemaError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on from here\n")
        return 130
