"""Directories that LeRobot saved, whole again: their weights are by formula and not stored."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from filled import weights
from safetensors.torch import save_file
from torch import Tensor

FOLDER = Path(__file__).resolve().parent / "lerobot_checkpoints"
_CONSTANTS = ("pos_enc", "pos_grid", ".attn.bias", "_indices")
_FLAGS = ("discretized", "freeze_codebook", "initted")


def state(names: np.ndarray, shapes: np.ndarray) -> dict[str, Tensor]:
    """Return what LeRobot stores under these names; what it computes itself is 0 here."""
    made = {}
    for name, text in zip(names, shapes, strict=True):
        shape = [int(size) for size in text.split(",") if size]
        if name.endswith(_CONSTANTS):
            made[str(name)] = torch.zeros(shape)
        elif name.endswith(_FLAGS):
            made[str(name)] = torch.ones(shape, dtype=torch.bool)
        else:
            made[str(name)] = torch.from_numpy(weights(str(name), shape))
    return made


def directory(kind: str, out: Path, extra: Mapping[str, Tensor] | None = None) -> Path:
    """Write the directory of `kind` to `out` and return it; `extra` are weights more."""
    shutil.copytree(FOLDER / kind, out)
    with np.load(out / "golden.npz") as golden:
        made = state(golden["names"], golden["shapes"])
    (out / "golden.npz").unlink()
    save_file({**made, **(extra or {})}, out / "model.safetensors", metadata={"format": "pt"})
    return out


def chunk(kind: str) -> np.ndarray:
    """Return what LeRobot's policy says, in robot units (B, H, A)."""
    with np.load(FOLDER / kind / "golden.npz") as golden:
        return np.array(golden["chunk"])
