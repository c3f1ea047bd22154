"""Typed overrides of a configuration's leaves from the command line: `--policy.encoders.camera.width 64`."""

from __future__ import annotations

from typing import TypeVar

from kinema.cli.parsing import parse

T = TypeVar("T")


def override(default: T, arguments: list[str], prog: str) -> T:
    """Return a copy of the frozen dataclass `default` with the leaves that `arguments` name replaced.

    A leaf is addressed by its path with dashes: fields, keys of mappings and positions in tuples joined by dots. Parts
    keep the class they have in `default`. Raises KinemaError for an unknown option, naming the nearest, and for a value
    that does not fit the leaf's type; `--help` prints all leaves with their values and exits.
    """
    return parse(type(default), arguments, prog=prog, default=default)
