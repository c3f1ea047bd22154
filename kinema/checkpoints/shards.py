"""A published directory: config.json and the weights, whole or in shards; safetensors alone, nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from kinema.core.errors import CheckpointError, UnavailableError

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def published(name: str | Path) -> Path:
    """Return the directory `name`, or the one that the hub's model of that name is downloaded to.

    Only JSON, safetensors and tokenizer files are downloaded. Raises UnavailableError.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    try:
        from huggingface_hub import snapshot_download

        patterns = ["*.json", "*.safetensors", "tokenizer*", "*.txt"]
        return Path(snapshot_download(str(name), allow_patterns=patterns))
    except Exception as error:  # the hub raises many kinds, all meaning "not there or not reachable"
        raise UnavailableError(
            f"backbone {str(name)!r} is neither a local directory nor a reachable hub id: {error!r:.200}"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; raises CheckpointError that names it."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, expected an object")
    return content


class Weights:
    """Names and shapes of the weights in open files; `load` reads one."""

    def __init__(self, files: Mapping[Path, Any]) -> None:
        self._files = files
        self._where = {name: path for path, file in files.items() for name in file.keys()}  # noqa: SIM118 - no mapping

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each weight."""
        return {name: tuple(self._files[path].get_slice(name).get_shape()) for name, path in self._where.items()}

    def load(self, name: str) -> Tensor:
        """Return a weight."""
        weight: Tensor = self._files[self._where[name]].get_tensor(name)
        return weight


@contextmanager
def open_weights(directory: Path) -> Iterator[Weights]:
    """Yield the weights of a directory; raises CheckpointError for pickles, missing shards and files cut short."""
    with ExitStack() as stack:
        files = {}
        for path in _files(directory):
            try:
                files[path] = stack.enter_context(safe_open(path, framework="pt"))
            except (OSError, SafetensorError) as error:
                raise CheckpointError(f"cannot read {path}: {error}; is the download whole?") from error
        yield Weights(files)


def _files(directory: Path) -> list[Path]:
    if (directory / INDEX).is_file():
        placed = read_json(directory / INDEX).get("weight_map")
        if not isinstance(placed, dict) or not all(isinstance(v, str) and Path(v).name == v for v in placed.values()):
            raise CheckpointError(f"{directory / INDEX} has no weight_map of weights to files beside it")
        names = sorted(set(placed.values()))
        lost = [name for name in names if not (directory / name).is_file()]
        if lost:
            raise CheckpointError(
                f"{directory}: {len(lost)} of {len(names)} shards are missing, such as {lost[0]}\n"
                "fix: finish the download"
            )
        return [directory / name for name in names]
    if (directory / WHOLE).is_file():
        return [directory / WHOLE]
    pickled = sorted(path.name for path in directory.iterdir() if path.suffix in PICKLED)
    found = f"; {pickled[0]} is a pickle, which can run code and is not loaded" if pickled else ""
    raise CheckpointError(f"{directory}: neither {WHOLE} nor {INDEX}{found}")
