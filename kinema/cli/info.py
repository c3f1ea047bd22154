"""Show the facts of a run or dataset directory: what was trained on what, what was recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from kinema.core.errors import CheckpointError, DataError, KinemaError, nearest

_WIDEST = 100
_MOST_ROWS = 40


@dataclass(frozen=True, kw_only=True)
class Info:
    """Show the facts of a run directory (run.json) or a dataset directory (meta/info.json); reads JSON only."""

    directory: tyro.conf.Positional[Path]
    """a directory made by `kinema train` or `kinema record`, or any LeRobotDataset"""

    def run(self) -> int:
        """Print a table of facts and return 0; raises KinemaError when the directory is neither."""
        from rich.console import Console
        from rich.table import Table

        for title, facts in describe(self.directory):
            table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
            table.add_column(overflow="fold")
            table.add_column(overflow="fold")
            for name, value in facts:
                table.add_row(name, value)
            Console(highlight=False, markup=False).print(table)
        return 0


def describe(directory: Path) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return titled lists of (fact, value) for a run or dataset directory."""
    if not directory.is_dir():
        beside = [path.name for path in directory.parent.iterdir()] if directory.parent.is_dir() else []
        raise KinemaError(f"no directory {str(directory)!r}{nearest(directory.name, beside)}")
    if (directory / "run.json").is_file():
        run = read_json(directory / "run.json", CheckpointError)
        # The configuration is long: what came of it would stand beyond the last row shown.
        ordered = sorted(run.items(), key=lambda entry: entry[0] == "trained")
        return [(f"run {directory}", _limited(facts(dict(ordered))))]
    if (directory / "meta" / "info.json").is_file():
        return _dataset(directory)
    raise KinemaError(f"{directory} is neither a run (no run.json) nor a dataset (no meta/info.json)")


def _dataset(directory: Path) -> list[tuple[str, list[tuple[str, str]]]]:
    info = dict(read_json(directory / "meta" / "info.json", DataError))
    features = info.pop("features", {})
    if not isinstance(features, Mapping) or not all(isinstance(value, Mapping) for value in features.values()):
        raise DataError(f"{directory / 'meta' / 'info.json'}: features is not a mapping of mappings")
    shown = [(f"dataset {directory}", _limited(facts(info)))]
    shown.append(("features", [(name, _feature(value)) for name, value in features.items()]))
    own = directory / "meta" / "kinema.json"
    if own.is_file():
        shown.append(("recorded by kinema", _limited(facts(read_json(own, DataError)))))
    return shown


def _feature(feature: Mapping[str, Any]) -> str:
    shape = "x".join(str(size) for size in feature.get("shape") or ())
    names = feature.get("names")
    names = next(iter(names.values()), None) if isinstance(names, Mapping) else names
    listed = f": {', '.join(str(name) for name in names)}" if isinstance(names, list) else ""
    return _short(f"{feature.get('dtype', '?')} {shape}{listed}")


def facts(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted name, value) of every entry of JSON `data`; lists of plain values stay on one line."""
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from facts(value, f"{name}.")
        elif isinstance(value, list) and any(isinstance(item, (Mapping, list)) for item in value):
            yield name, f"{len(value)} entries"
        elif isinstance(value, (list, Mapping)):
            yield name, _short(", ".join(str(item) for item in value) or "none")
        else:
            yield name, _short(str(value))


def _limited(rows: Iterator[tuple[str, str]]) -> list[tuple[str, str]]:
    found = list(rows)
    if len(found) <= _MOST_ROWS:
        return found
    return [*found[:_MOST_ROWS], ("...", f"and {len(found) - _MOST_ROWS} more entries in the file")]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _WIDEST else f"{line[: _WIDEST - 3]}..."


def read_json(path: Path, error: type[KinemaError]) -> dict[str, Any]:
    """Return the JSON object at `path`; raises `error` for any other content."""
    try:
        data = json.loads(path.read_text("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as reason:
        raise error(f"cannot read {path}: {reason}") from reason
    if not isinstance(data, dict):
        raise error(f"{path}: expected a JSON object, found {type(data).__name__}")
    return data
