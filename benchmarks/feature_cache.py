"""What keeping images small and features of a frozen encoder on disk saves in training, at the same bits.

    python benchmarks/feature_cache.py            # two or three minutes, into docs/results/feature_cache.json
    python benchmarks/feature_cache.py --quick    # half a minute, to see that it works; into WORK/quick, not into docs

One camera at 480x640 of a moving textured scene. Loading: an epoch of a complete cache of decoded frames, whole and
resized when they were decoded. Training: a ViT-Ti/16 at 224 px (random weights: speed does not depend on their values)
with a trained projection, trunk and head; a step is loading, forward, backward and update. Live it encodes each frame
alone, as it does when acting, or all frames of a batch at once, as is usual; from the cache it reads features. The loss
of the first step must be the same number, live and cached.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import results
import torch
from loader_scene import LEROBOT_CODEC, Data, made

from kinema.core.errors import KinemaError
from kinema.data.lerobot.reader import Dataset, open_dataset
from kinema.data.loader import Loader
from kinema.data.windows import Windows
from kinema.heads.regression import Regression
from kinema.nets.encoders.frozen_vision import FrozenVision
from kinema.nets.encoders.proprioception import Proprioception
from kinema.nets.trunks.fusion import Fusion
from kinema.nets.vision import VisionModel
from kinema.policies.base import PolicyConfig
from kinema.recipes.base import DataConfig, Prepared, Recipe, prepare
from kinema.train.config import TrainConfig
from kinema.transforms.resize import Resize

SIDE, BATCH = 224, 16


@dataclass(frozen=True, kw_only=True)
class Caching:
    """Measure loading and training, whole and resized, live and cached."""

    quick: bool = False
    """few steps, to see that it works; writes WORK/quick/feature_cache.json"""
    work: Path = Path("runs/bench/feature_cache")
    """directory of the dataset and the model"""
    out: Path = results.RESULTS
    """directory of feature_cache.json"""

    def run(self) -> int:
        """Measure and write the results."""
        episodes, load = 1 if self.quick else 4, os.getloadavg()[0]
        data = Data(
            name="480x640", height=480, width=640, cameras=("front",), episodes=episodes, steps=80, codec=LEROBOT_CODEC
        )
        root, model = made(data, self.work), vision(self.work / "model")
        shutil.rmtree(root / ".cache", ignore_errors=True)
        figures = {"loading": loading(root, 2 if self.quick else 5), "training": training(root, model, self.quick)}
        path = results.write(
            "feature_cache",
            figures,
            command="python benchmarks/feature_cache.py" + " --quick" * self.quick,
            seeds=[0],
            notes=[
                f"{data.frames} frames, batches of {BATCH}, {torch.get_num_threads()} thread(s) for torch; "
                f"{load:.1f} processes were running when it began."
            ],
            directory=self.work / "quick" if self.quick else self.out,
        )
        sys.stdout.write(f"{path}\n")
        return 0


def vision(folder: Path) -> Path:
    """Return a directory with a ViT-Ti/16 of random weights."""
    from transformers import ViTConfig, ViTModel

    if not (folder / "model.safetensors").is_file():
        torch.manual_seed(0)
        config = ViTConfig(hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768)
        ViTModel(config).save_pretrained(folder)
        scaling = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
        (folder / "preprocessor_config.json").write_text(json.dumps(scaling), "utf-8")
    return folder


def loading(root: Path, rounds: int) -> dict[str, Any]:
    """Return windows per second and bytes on disk of complete caches at each size."""
    found = {}
    for side in (None, SIDE, 96):
        resize = None if side is None else Resize(height=side, width=side)
        frames = partial(open_dataset(root).frames, resize=resize)
        began = time.perf_counter()
        frames("front").fill()
        filled_s = time.perf_counter() - began
        loader = Loader(
            Windows(open_dataset(root), obs_horizon=2, pred_horizon=16, frames=frames), batch_size=BATCH, seed=0
        )
        found["whole" if side is None else f"{side}x{side}"] = {
            "decoding all": results.once(filled_s, "s"),
            "on disk": results.once(frames("front").path.stat().st_size / 2**20, "MiB"),
            "epoch": results.repeated([_epoch(loader) for _ in range(rounds)], "windows/s"),
        }
    return found


def _epoch(loader: Loader) -> float:
    count, batches = -(-len(loader.samples) // BATCH), loader.batches()
    began = time.perf_counter()
    for _ in range(count):
        next(batches)
    elapsed = time.perf_counter() - began
    batches.close()
    return count * BATCH / elapsed


def training(root: Path, model: Path, quick: bool) -> dict[str, Any]:
    """Return seconds a step, live and from kept features, and what the features cost once."""
    live = Recipe(
        policy=PolicyConfig(
            encoders={"front": FrozenVision(camera="front", model=str(model)), "proprioception": Proprioception()},
            trunk=Fusion(),
            head=Regression(),
        ),
        train=TrainConfig(steps=1000, batch_size=BATCH),
        data=DataConfig(resize=(SIDE, SIDE), held_out_fraction=0.0),
    )
    dataset = open_dataset(root)
    dataset.frames("front", resize=Resize(height=SIDE, width=SIDE)).fill()
    prepared = prepare(live, dataset)
    began = time.perf_counter()
    kept = prepare(replace(live, data=replace(live.data, cache_features=True)), dataset)
    making_s = time.perf_counter() - began
    losses = [first_loss(one) for one in (prepared, kept)]
    if losses[0] != losses[1]:
        raise KinemaError(f"the first loss is {losses[0]} live and {losses[1]} from kept features")
    few, many = (1, 5) if quick else (5, 50)
    alone, cached = list(steps(prepared, few)), list(steps(kept, many))
    together = batched(prepared, few)
    return {
        "making the features once": results.once(making_s, "s"),
        "features on disk": results.once(_size(dataset) / 2**20, "MiB"),
        "step, live, each frame alone": results.repeated(alone, "s"),
        "step, live, all frames at once": results.repeated(together, "s"),
        "step, kept features": results.repeated(cached, "s"),
        "kept against live": results.once(float(np.median(alone) / np.median(cached)), "times as fast"),
        "kept against all at once": results.once(float(np.median(together) / np.median(cached)), "times as fast"),
        "first loss the same": results.once(1, "count"),
    }


def steps(prepared: Prepared, count: int) -> Iterator[float]:
    """Yield the seconds of each of `count` steps after one to warm up."""
    optimiser, batches = torch.optim.AdamW(prepared.network.parameters()), prepared.batches(0)
    rng = torch.Generator().manual_seed(0)
    for number in range(count + 1):
        began = time.perf_counter()
        loss = prepared.network.loss(tensors(next(batches)), rng).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if number:
            yield time.perf_counter() - began
    batches.close()


def first_loss(prepared: Prepared) -> float:
    """Return the loss of the first batch."""
    rng = torch.Generator().manual_seed(0)
    return float(prepared.network.loss(tensors(next(prepared.batches(0))), rng).sum().detach())


def batched(prepared: Prepared, count: int) -> list[float]:
    """Return the seconds of steps whose frames go through the frozen model together."""
    own = VisionModel.encode

    @torch.no_grad()
    def encode(model: VisionModel, images: torch.Tensor, grid: int) -> torch.Tensor:
        pixels = ((images.float() / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)
        hidden = model._load()(pixel_values=pixels).last_hidden_state[:, 1:]
        raster = hidden.transpose(1, 2).reshape(len(images), model.width, *model.patches)
        return torch.nn.functional.adaptive_avg_pool2d(raster, grid).flatten(2).transpose(1, 2)

    try:
        VisionModel.encode = encode  # type: ignore[method-assign]
        return list(steps(prepared, count))
    finally:
        VisionModel.encode = own  # type: ignore[method-assign]


def tensors(batch: dict[str, Any]) -> dict[str, Any]:
    """Return the batch with tensors for arrays."""
    return {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in batch.items()}


def _size(dataset: Dataset) -> int:
    return sum(path.stat().st_size for path in (dataset.cache / "features").iterdir())


if __name__ == "__main__":
    sys.exit(results.main(Caching, sys.argv[1:], prog="feature_cache.py"))
