"""Frozen dataclasses to JSON and back; only classes of trusted packages can be named.

A dataclass becomes `{"type": "kinema.heads.flow:Flow", ...fields}`, a tuple a list, an array
`{"array": [...], "dtype": "float32"}`. Reading refuses unknown, missing and mistyped entries by name.
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from kinema.core.errors import KinemaError, nearest
from kinema.core.files import write_text

TRUSTED = ("kinema",)
_DTYPES = ("float32", "float64", "int64", "bool")


def to_data(value: Any) -> Any:
    """Return `value` as plain JSON data; raises KinemaError for what has no place in a configuration."""
    if is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        entries = {f.name: to_data(getattr(value, f.name)) for f in fields(value)}
        return {"type": f"{kind.__module__}:{kind.__qualname__}", **entries}
    if isinstance(value, np.ndarray):
        if str(value.dtype) not in _DTYPES or not np.isfinite(value).all():
            raise KinemaError(f"a configuration cannot hold a {value.dtype} array, or one that is not finite")
        return {"array": value.tolist(), "dtype": str(value.dtype)}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value) or {"type", "array"} & set(value):
            raise KinemaError(
                f"a configuration's names are texts other than 'type' and 'array', not {list(value)!r:.80}"
            )
        return {key: to_data(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_data(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise KinemaError(f"a configuration cannot hold {value}")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise KinemaError(f"a configuration cannot hold {type(value).__name__} {value!r:.80}")


def from_data(data: Any, *, trusted: tuple[str, ...] = TRUSTED) -> Any:
    """Return the object that `to_data` described; lists become tuples."""
    try:
        return _from_data(data, trusted)
    except RecursionError as error:
        raise KinemaError("a configuration is nested too deeply") from error


def _from_data(data: Any, trusted: tuple[str, ...]) -> Any:
    if isinstance(data, list):
        return tuple(_from_data(item, trusted) for item in data)
    if not isinstance(data, dict):
        return data
    if "array" in data:
        return _array(data)
    if "type" not in data:
        return {key: _from_data(item, trusted) for key, item in data.items()}
    kind = _trusted_class(data["type"], trusted)
    given = {key: _from_data(item, trusted) for key, item in data.items() if key != "type"}
    known = {f.name: f for f in fields(kind)}
    hints = get_type_hints(kind)
    for name in given:
        if name not in known:
            raise KinemaError(f"{data['type']}: unknown field {name!r}{nearest(name, known)}")
        if not _fits(given[name], hints[name]):
            raise KinemaError(f"{data['type']}: field {name!r} is {given[name]!r:.80}, expected {known[name].type}")
    for name, f in known.items():
        if name not in given and f.default is MISSING and f.default_factory is MISSING:
            raise KinemaError(f"{data['type']}: field {name!r} is missing")
    try:
        return kind(**given)
    except (TypeError, AttributeError) as error:
        raise KinemaError(f"{data['type']}: cannot be made of these values: {error}") from error


def _fits(value: Any, hint: Any) -> bool:
    """Return whether `value` is of the annotated type; whole numbers are floats too, truth values are no numbers."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        parts = parts[:1] * len(value) if parts[1:] == (Ellipsis,) else parts
        return len(value) == len(parts) and all(_fits(item, part) for item, part in zip(value, parts, strict=True))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(_fits(item, parts[1]) for item in value.values())
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, (int, float))
    return not isinstance(hint, type) or isinstance(value, hint)


def _array(data: Mapping[str, Any]) -> np.ndarray:
    if set(data) != {"array", "dtype"} or data["dtype"] not in _DTYPES:
        raise KinemaError(f"not an array entry: {sorted(data)} {data.get('dtype')!r}")
    try:
        return np.asarray(data["array"], dtype=data["dtype"])
    except (TypeError, ValueError) as error:
        raise KinemaError(f"not an array of {data['dtype']}: {error}") from error


def _trusted_class(path: Any, trusted: tuple[str, ...]) -> type:
    module_name, _, name = str(path).partition(":")
    parts = module_name.split(".")
    if parts[0] not in trusted or not name.isidentifier() or "__main__" in parts or parts[:2] == ["kinema", "cli"]:
        raise KinemaError(f"refusing to load {path!r}: only classes of {', '.join(trusted)} are trusted here")
    try:
        kind = vars(importlib.import_module(module_name)).get(name)
    except ModuleNotFoundError as error:
        raise KinemaError(f"{path!r} does not exist in this version: {error}") from error
    if not (isinstance(kind, type) and is_dataclass(kind)):
        raise KinemaError(f"{path!r} is not a configuration of this version")
    return kind


def save(value: Any, path: Path) -> None:
    """Write `value` as JSON, replacing `path` in one step."""
    write_text(path, json.dumps(to_data(value), indent=2) + "\n")


def load(path: Path, *, trusted: tuple[str, ...] = TRUSTED) -> Any:
    """Return the object stored at `path`; a missing or malformed file is a KinemaError that names it."""
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no text, no JSON, or a number too long to read
        raise KinemaError(f"cannot read {path}: {error}") from error
    return from_data(data, trusted=trusted)
