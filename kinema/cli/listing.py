"""Show what this installation holds: suites, recipes, policies, heads, encoders, transforms, chunking and more."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from kinema.cli.summary import summary
from kinema.core.errors import unknown
from kinema.core.names import PACKAGES, members

_IRREGULAR = {"policy": "policies", "chunking": "chunking"}
PLURALS = {_IRREGULAR.get(kind, f"{kind}s"): kind for kind in PACKAGES}


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Show what can be named on the command line, one line each, without importing any of it."""

    kind: tyro.conf.Positional[str] = ""
    """suites, recipes, policies, heads, encoders, trunks, denoisers, transforms, importers, checkpoints ...; or all"""

    def run(self) -> int:
        """Print the members and return 0; raises KinemaError for a kind that does not exist."""
        if self.kind and self.kind not in PLURALS and self.kind not in PACKAGES:
            raise unknown("kind", self.kind, PLURALS)
        kinds = [PLURALS.get(self.kind, self.kind)] if self.kind else list(PACKAGES)
        blocks = []
        for kind in kinds:
            lines = [f"{name:<24} {about}".rstrip() for name, about in described(kind)]
            head = [next(plural for plural, single in PLURALS.items() if single == kind)] if not self.kind else []
            blocks.append("\n".join(head + [("  " if head else "") + line for line in lines or ["none"]]))
        sys.stdout.write("\n\n".join(blocks) + "\n")
        return 0


def described(kind: str) -> list[tuple[str, str]]:
    """Return (name, first docstring line) of every member of `kind`."""
    return [(name, summary(_file(kind, name))) for name in members(kind)]


def _file(kind: str, name: str) -> Path:
    spec = importlib.util.find_spec(PACKAGES[kind])
    folder = Path(next(iter(spec.submodule_search_locations or ()))) if spec else Path()
    module = folder / name.replace("-", "_")
    return module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
