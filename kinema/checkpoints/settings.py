"""Entries of a foreign config.json, of which each is read, expected to have one value, or known to train only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kinema.core.errors import CheckpointError, KinemaError, nearest, unknown


@contextmanager
def reading(where: Path | str) -> Iterator[None]:
    """Raise CheckpointError that names `where` for entries of other types or sizes than whoever reads them expects."""
    try:
        yield
    except KinemaError:
        raise
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, AssertionError, RuntimeError) as error:
        raise CheckpointError(
            f"{where}: an entry is not what it should be ({type(error).__name__}: {error!s:.200})\n"
            "fix: the files as they were published"
        ) from error


class Settings:
    """Entries are taken one by one; `finish` refuses those that nobody took."""

    def __init__(self, entries: Mapping[str, Any], where: Path) -> None:
        self._rest = dict(entries)
        self._known: set[str] = set()
        self.where = where

    def take(self, name: str, kind: type, *, default: Any = None) -> Any:
        """Return the entry `name` of the type `kind`, or `default` where it is not there or null.

        Raises CheckpointError for another type, and for no entry where there is no default.
        """
        self._known.add(name)
        value = self._rest.pop(name, None)
        if value is None and default is None:
            raise CheckpointError(f"{self.where} does not say {name!r}{nearest(name, self._rest)}")
        value = default if value is None else value
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (
            whole if kind is int else (whole or isinstance(value, float)) if kind is float else isinstance(value, kind)
        ):
            raise CheckpointError(f"{self.where}: {name!r} is {value!r:.60}, expected {kind.__name__}")
        return value

    def maybe(self, name: str, kind: type) -> Any:
        """Return the entry `name`, or None where it is not there or null."""
        if self._rest.get(name) is None:
            self._known.add(name)
            self._rest.pop(name, None)
            return None
        return self.take(name, kind)

    def choose(self, name: str, known: Mapping[Any, Any]) -> Any:
        """Return what `known` has for the entry `name`; raises KinemaError with the nearest match for another one."""
        value = self.take(name, object)
        if value not in known:
            raise unknown(f"{name} of {self.where.name}", str(value), [str(option) for option in known])
        return known[value]

    def expect(self, **values: Any) -> None:
        """Raise CheckpointError unless entries that are there have the only values that kinema knows."""
        for name, value in values.items():
            self._known.add(name)
            have = self._rest.pop(name, value)
            if have != value:
                raise CheckpointError(
                    f"{self.where}: {name!r} is {have!r:.60}, which kinema cannot do; expected {value!r}"
                )

    def skip(self, *names: str) -> None:
        """Pass over entries that decide nothing of what the policy does."""
        for name in names:
            self._known.add(name)
            self._rest.pop(name, None)

    def finish(self, newest: str) -> None:
        """Raise CheckpointError for entries that are left: they mean something that `newest` does not have."""
        if self._rest:
            name = sorted(self._rest)[0]
            more = f" and {len(self._rest) - 1} more" if len(self._rest) > 1 else ""
            raise CheckpointError(
                f"{self.where}: unknown entry {name!r}{more}{nearest(name, self._known)}\n"
                f"{newest} has no such entry: was it made by a newer version?"
            )


def pair(value: Iterable[Any], what: str) -> tuple[int, int]:
    """Return (height, width) of a list of two; raises CheckpointError for anything else."""
    sizes = list(value)
    if len(sizes) != 2 or not all(isinstance(size, int) for size in sizes):
        raise CheckpointError(f"{what} is {sizes}, expected height and width")
    return sizes[0], sizes[1]
