"""Tensors in safetensors files: written in one step, read strictly."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from kinema.core.errors import CheckpointError, UnavailableError, nearest
from kinema.core.files import sync_directory
from kinema.nets.ema import named_weights

_SHOWN = 7


def save_weights(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write `tensors` to `path` atomically: a temporary file beside it, flushed to disk, then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write_tensors(tensors, temporary)
        os.replace(temporary, path)
        sync_directory(path.parent)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise UnavailableError(f"cannot write {path}: {reason(error)}") from error


def load_weights(module: nn.Module, path: Path) -> None:
    """Fill every parameter and persistent buffer of `module` from `path`, and nothing else.

    A missing or extra key, a shape or dtype that differs and a truncated or foreign file are each a CheckpointError.
    """
    load_into(named_weights(module), path)


def load_into(live: Mapping[str, Tensor], path: Path) -> None:
    """Copy the tensors of `path` into `live`, after all names, shapes and dtypes have been found equal."""
    fill(live, read_tensors(path), path)


@torch.no_grad()
def fill(live: Mapping[str, Tensor], stored: Mapping[str, Tensor], path: Path) -> None:
    """Copy `stored`, of `path`, into `live`, after all names, shapes and dtypes have been found equal."""
    problems = [f"missing {n!r}" for n in live if n not in stored]
    problems += [f"not expected {n!r}" for n in stored if n not in live]
    for name in live:
        if name in stored and (found := _kind(stored[name])) != (expected := _kind(live[name])):
            problems.append(f"{name!r} is {found}, expected {expected}")
    if problems:
        lines = [f"  {problem}{_hint(problem, live, stored)}" for problem in problems[:_SHOWN]]
        if len(problems) > _SHOWN:
            lines.append(f"  ... and {len(problems) - _SHOWN} more")
        raise CheckpointError(f"{path} does not fit:\n" + "\n".join(lines))
    for name, tensor in live.items():
        tensor.copy_(stored[name])


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _hint(problem: str, live: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> str:
    kind, _, name = problem.partition(" '")
    if kind == "missing":
        return nearest(name[:-1], [n for n in stored if n not in live]).replace("did you mean", "the file has")
    if kind == "not expected":
        return nearest(name[:-1], [n for n in live if n not in stored])
    return ""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of `path` on the CPU; a missing, truncated or foreign file is a CheckpointError."""
    if not path.is_file():
        others = [other.name for other in path.parent.glob("*.safetensors")] if path.parent.is_dir() else []
        raise CheckpointError(f"{path} does not exist{nearest(path.name, others)}")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        size = path.stat().st_size
        raise CheckpointError(f"{path} ({size} bytes) is truncated or no safetensors file: {reason(error)}") from error


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write `tensors` to `path` and flush them to disk; OSError or SafetensorError when the disk refuses."""
    save_file({name: _plain(tensor) for name, tensor in tensors.items()}, path)
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _plain(tensor: Tensor) -> Tensor:
    plain = tensor.detach().cpu().contiguous()
    # Views into one storage (flattened recurrent weights, expanded buffers) would be refused by the format.
    whole = plain.untyped_storage().nbytes() == plain.numel() * plain.element_size()
    return plain if whole else plain.clone()


def reason(error: Exception) -> str:
    """Return what the system says went wrong, without the path."""
    return str(error.strerror) if isinstance(error, OSError) and error.strerror else str(error)
