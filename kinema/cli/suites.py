"""Suites as the command line names them."""

from __future__ import annotations

from typing import Any

from kinema.cli.overrides import override
from kinema.core.errors import KinemaError
from kinema.core.names import find


def make_suite(name: str, overrides: tuple[str, ...], prog: str) -> Any:
    """Return the suite called `name` with its own options taken from the command line."""
    return override(find("suite", name)(), list(overrides), prog)


def split_names(text: str, option: str) -> list[str]:
    """Return the parts of a comma-separated list; an empty part is an error."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise KinemaError(f"{option} {text!r}: expected names separated by commas, such as drawer-open,window-close")
    return names


def trusted_packages(text: str) -> tuple[str, ...]:
    """Return kinema and the packages that the option `--trust` names."""
    return ("kinema", *(split_names(text, "--trust") if text else ()))
