"""Frozen image transformers with verified weights: what they make of the patches of an image."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kinema.core.errors import CheckpointError, UnavailableError

_NOT_READ = ("pooler.", "head.")
"""Weights that come after the patches; published checkpoints may lack them."""


@lru_cache(maxsize=4)
def vision_model(directory: str, sha256: str | None) -> VisionModel:
    """Return the model in `directory`; the same object for the same arguments, so that its weights are shared."""
    return VisionModel(Path(directory).expanduser(), sha256)


class VisionModel:
    """A frozen image transformer as `transformers` saves one: ViT, DINOv2, SigLIP's or CLIP's vision model.

    The directory holds config.json, model.safetensors and preprocessor_config.json, which says by what mean and
    deviation images are scaled. `sha256` is of all that decides what images become: the weights, config.json, mean and
    deviation. Raises CheckpointError for a directory that lacks any or asks for another scaling than pixels / 255,
    less the mean, by the deviation, and for another digest.
    """

    def __init__(self, directory: Path, sha256: str | None) -> None:
        self._directory = directory
        weights = directory / "model.safetensors"
        if not weights.is_file():
            raise CheckpointError(f"vision model {directory}: model.safetensors does not exist; only safetensors load")
        shape = self._said("config.json", "image_size", "patch_size", "hidden_size")
        self.size, patch = _pair(shape["image_size"]), _pair(shape["patch_size"])
        """(Hi, Wi) of the images that it takes [px]."""
        self.patches = (self.size[0] // patch[0], self.size[1] // patch[1])
        self.width = int(shape["hidden_size"])
        scaling = self._scaling()
        self._mean, self._deviation = (torch.tensor(value).float() for value in scaling)
        parts = (weights.read_bytes(), (directory / "config.json").read_bytes(), json.dumps(scaling).encode())
        self.sha256 = hashlib.sha256("".join(hashlib.sha256(part).hexdigest() for part in parts).encode()).hexdigest()
        if sha256 is not None and self.sha256 != sha256:
            raise CheckpointError(
                f"vision model {directory}: sha256 of weights, config.json and scaling is {self.sha256}, "
                f"expected {sha256}"
            )
        self._loaded: nn.Module | None = None

    @torch.no_grad()
    def encode(self, images: Tensor, grid: int) -> Tensor:
        """Return for `images` (N, Hi, Wi, 3) uint8 the means of their patches in a `grid` x `grid` raster.

        (N, grid * grid, width) float32, on the device of the images; each image alone, in float32 whatever surrounds
        it, so that it never depends on its neighbours or on how training computes.
        """
        model = self._load().to(images.device)
        mean, deviation = self._mean.to(images.device), self._deviation.to(images.device)
        found = []
        with torch.autocast(images.device.type, enabled=False):
            for image in images:
                pixels = ((image.float() / 255 - mean) / deviation).permute(2, 0, 1)[None]
                hidden = model(pixel_values=pixels).last_hidden_state.float()
                # Class and register tokens come before the patches.
                rows, columns = self.patches
                raster = hidden[0, -rows * columns :].T.reshape(1, self.width, rows, columns)
                found.append(nn.functional.adaptive_avg_pool2d(raster, grid)[0].flatten(1).T)
        return torch.stack(found)

    def _load(self) -> nn.Module:
        if self._loaded is None:
            try:
                from transformers import AutoModel
                from transformers.utils import logging
            except ModuleNotFoundError as error:
                fix = "pip install 'kinema[vlm]'"
                raise UnavailableError(f"the frozen vision encoder needs transformers\nfix: {fix}") from error
            logging.disable_progress_bar()
            model, report = AutoModel.from_pretrained(
                self._directory, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
            missing = [name for name in report["missing_keys"] if not name.startswith(_NOT_READ)]
            if missing or report["mismatched_keys"]:
                raise CheckpointError(
                    f"vision model {self._directory}: model.safetensors lacks {len(missing)} weights of config.json, "
                    f"such as {sorted(missing)[:1] or list(report['mismatched_keys'])[:1]}"
                )
            self._loaded = model.float().eval().requires_grad_(False)
        return self._loaded

    def _scaling(self) -> list[list[float]]:
        """Return mean and deviation by which pixels / 255 are scaled."""
        name = "preprocessor_config.json"
        said = self._said(name, "image_mean", "image_std")
        # Published files give the factor to 16 digits or fewer.
        if abs(float(said.get("rescale_factor", 1 / 255)) * 255 - 1) > 1e-6 or not said.get("do_rescale", True):
            raise CheckpointError(
                f"{self._directory / name}: expected pixels divided by 255 (do_rescale, rescale_factor 1/255)"
            )
        if not said.get("do_normalize", True):
            raise CheckpointError(f"{self._directory / name}: do_normalize is false; expected a mean and a deviation")
        return [[float(value) for value in said[entry]] for entry in ("image_mean", "image_std")]

    def _said(self, name: str, *entries: str) -> dict[str, Any]:
        path = self._directory / name
        try:
            content = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"cannot read {path}: {error}") from error
        for entry in entries:
            if not isinstance(content, dict) or entry not in content:
                raise CheckpointError(f"{path} does not say {entry!r}: expected a single image transformer")
        return dict(content)


def _pair(size: Any) -> tuple[int, int]:
    if isinstance(size, dict):
        size = (size.get("height"), size.get("width"))
    high, wide = size if isinstance(size, (list, tuple)) else (size, size)
    return int(high), int(wide)
