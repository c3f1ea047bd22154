"""Names of weights here and elsewhere: pairs of templates that are read both ways."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kinema.core.errors import KinemaError, nearest

_FIELD = re.compile(r"\{(\w+)(\+\d+)?\}")


class Renaming:
    """Pairs (ours, theirs) of templates; the first pair that fits a name decides.

    `{n}` stands for a number that is kept and `{n+1}` for one more than `{n}` of the other side; a template that ends
    in a dot stands for all names that begin so.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._there = [(_pattern(ours), ours, theirs) for ours, theirs in pairs]
        self._back = [(_pattern(theirs), theirs, ours) for ours, theirs in pairs]

    def theirs(self, name: str) -> str:
        """Return what our `name` is called elsewhere; a name that no pair fits is a KinemaError."""
        return _renamed(name, self._there)

    def ours(self, name: str) -> str:
        """Return what their `name` is called here; a name that no pair fits is a KinemaError."""
        return _renamed(name, self._back)


def _pattern(template: str) -> re.Pattern[str]:
    parts = _FIELD.split(template)
    texts, fields = parts[::3], parts[1::3]
    pattern = re.escape(texts[0])
    for field, text in zip(fields, texts[1:], strict=True):
        pattern += rf"(?P<{field}>\d+)" + re.escape(text)
    return re.compile(pattern + ("" if template.endswith(".") else "$"))


def _renamed(name: str, pairs: Sequence[tuple[re.Pattern[str], str, str]]) -> str:
    for pattern, here, there in pairs:
        match = pattern.match(name)
        numbers = {field: int(match[field]) - int(plus or 0) for field, plus in _FIELD.findall(here)} if match else {}
        if match and min(numbers.values(), default=0) >= 0:
            made = _FIELD.sub(lambda found, n=numbers: str(n[found[1]] + int(found[2] or 0)), there)  # type: ignore[misc]
            return made + name[match.end() :]
    raise KinemaError(f"no name for the weight {name!r} is known{nearest(name, [here for _, here, _ in pairs])}")
