"""What a module says about itself, read without importing it."""

from __future__ import annotations

import ast
from pathlib import Path


def summary(path: Path) -> str:
    """Return the first line of the docstring of the Python file at `path`, or an empty string."""
    text = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    return text.splitlines()[0] if text else ""
