"""Small files that say how a directory was made, so that going on with other options is an error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kinema.cli.info import read_json
from kinema.core.errors import CheckpointError, KinemaError
from kinema.core.files import write_text


def keep(path: Path, content: Mapping[str, Any], *, begun: bool) -> None:
    """Write `content` to `path`; raises KinemaError when work has `begun` under another content."""
    stored = read_json(path, CheckpointError) if begun and path.exists() else content
    differing = [name for name in {**stored, **content} if stored.get(name) != content.get(name)]
    if differing:
        shown = [f"  {name}: {content.get(name)!r:.150}, before {stored.get(name)!r:.150}" for name in differing[:6]]
        head = f"{path.parent} was begun with something else, says {path.name}:"
        raise KinemaError("\n".join([head, *shown, "fix: give what was given before to go on, or another directory"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=2) + "\n")
