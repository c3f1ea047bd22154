"""Patterns that name parts of a network: `trunk`, `encoders.*`, `*.lora_B.*`."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from kinema.core.errors import KinemaError, nearest


def matches(pattern: str, name: str) -> bool:
    """Return whether `pattern` is `name` or a part that holds it; `*` stands for any letters, dots included."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def matched(patterns: Iterable[str], names: Iterable[str], *, option: str, kind: str) -> dict[str, str]:
    """Return name -> the pattern that matches it, for those of `names` that one of `patterns` does.

    A pattern that matches nothing, and a name that two match, are KinemaErrors that say which `option` it was and what
    `kind` of thing was looked for.
    """
    patterns, names = list(patterns), list(names)
    found: dict[str, str] = {}
    for pattern in patterns:
        own = [name for name in names if matches(pattern, name)]
        if not own:
            raise KinemaError(f"{option}: {pattern!r} matches no {kind}{nearest(pattern, _parts(names))}")
        for name in own:
            if name in found:
                raise KinemaError(f"{option}: {name!r} is matched by {found[name]!r} and by {pattern!r}; one must do")
            found[name] = pattern
    return found


def _parts(names: Iterable[str]) -> list[str]:
    """Return all names and what holds them, the shortest first."""
    parts = {".".join(pieces[:n]) for pieces in (name.split(".") for name in names) for n in range(1, len(pieces) + 1)}
    return sorted(parts, key=lambda part: (part.count("."), part))
