"""Errors that a user can act on: what is wrong, what was expected, the nearest match."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KinemaError(ValueError):
    """An error caused by input: a name, file, option or shape that does not fit.

    The command line prints it without a traceback.
    """


class SpecMismatch(KinemaError):
    """Two robot interfaces that do not fit: a camera, unit, frame, rate, component or embodiment differs."""


class DataError(KinemaError):
    """A dataset directory that cannot be read as what it claims to be."""


class CheckpointError(KinemaError):
    """A run directory or weights file that is missing, truncated, foreign or does not match its configuration."""


class UnavailableError(KinemaError):
    """Something this machine lacks: an optional package, a graphics library, disk space, a writable path."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the closest allowed name, or an empty string when none is close."""
    allowed = list(allowed)
    match = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    if not match:
        contained = [option for option in allowed if name and (name in option or option in name)]
        match = contained[:1]
    return f"; did you mean {match[0]!r}?" if match else ""


def unknown(kind: str, name: str, allowed: Iterable[str]) -> KinemaError:
    """Return the error for a name that does not exist, with the nearest match and a few of the allowed names."""
    allowed = sorted(allowed)
    shown = ", ".join(allowed[:12]) + (f", ... ({len(allowed)} in all)" if len(allowed) > 12 else "")
    return KinemaError(f"unknown {kind} {name!r}{nearest(name, allowed)}\nknown: {shown or 'none'}")
