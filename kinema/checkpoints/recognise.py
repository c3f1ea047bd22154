"""Which project a checkpoint is of, by what lies in its directory."""

from __future__ import annotations

from pathlib import Path

from kinema.checkpoints.shards import PICKLED, read_json
from kinema.core.errors import CheckpointError, nearest


def recognise(path: Path) -> str:
    """Return the name of the importer for the directory `path`; raises CheckpointError where none fits."""
    if not path.is_dir():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise CheckpointError(f"no directory {str(path)!r}{nearest(path.name, beside)}")
    if (path / "params").is_dir() or (path / "_METADATA").is_file():
        return "openpi"
    pickled = sorted(entry.name for entry in path.iterdir() if entry.suffix in PICKLED)
    if not (path / "config.json").is_file():
        found = f"; {pickled[0]} is a pickle, which can run code and is not loaded" if pickled else ""
        raise CheckpointError(f"{path} has no config.json, by which lerobot, openpi and openvla are known{found}")
    said = read_json(path / "config.json")
    if "type" in said:
        return "lerobot"
    if said.get("model_type") == "openvla":
        return "openvla"
    if "paligemma_variant" in said:
        return "openpi"
    raise CheckpointError(
        f"{path / 'config.json'} is of none of lerobot (it says 'type'), openvla (model_type 'openvla') and openpi "
        "(paligemma_variant)\nfix: say which it is by --format"
    )
