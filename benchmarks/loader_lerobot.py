"""LeRobot's side of the loader benchmark; runs in LeRobot's environment, started by loader.py with options in JSON."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loader_timing import digest, forget, timed

# The wheel of torchvision is a CUDA build that cannot load its operators here; LeRobot imports it, but its loader does
# not use them. Declared, they do no harm.
_LIBRARY = torch.library.Library("torchvision", "DEF")
_LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from lerobot.datasets.lerobot_dataset import LeRobotDataset  # noqa: E402


def opened(options: dict[str, Any]) -> LeRobotDataset:
    """Return the dataset, asked for the same windows as kinema's."""
    fps = options["fps"]
    past = [step / fps for step in range(1 - options["obs_horizon"], 1)]
    wanted = dict.fromkeys((*options["cameras"], "observation.state"), past)
    wanted["action"] = [step / fps for step in range(options["pred_horizon"])]
    return LeRobotDataset(
        "local/benchmark", root=options["root"], delta_timestamps=wanted, video_backend=options["backend"]
    )


def measure(options: dict[str, Any]) -> dict[str, Any]:
    """Return the speed of each epoch."""
    forget(Path(options["root"]))
    epochs = [np.load(path) for path in options["epochs"]]
    dataset = opened(options)
    workers = options["workers"]
    order: list[list[int]] = []
    more: dict[str, Any] = {"persistent_workers": True} if workers else {}
    loader = torch.utils.data.DataLoader(dataset, batch_sampler=order, num_workers=workers, **more)
    found = {}
    for number, epoch in enumerate(epochs):
        order[:] = epoch.tolist()
        batches = iter(loader)
        found[f"epoch {number + 1}"] = timed(batches, len(order), epoch.size)
    return found


def verify(options: dict[str, Any]) -> list[str]:
    """Return the digests of items: images uint8 (T, Hi, Wi, 3) of each camera, state and action."""
    dataset = opened(options)
    found = []
    for index in np.load(options["items"]).tolist():
        item = dataset[index]
        images = [(item[key] * 255).round().to(torch.uint8).permute(0, 2, 3, 1) for key in options["cameras"]]
        arrays = [image.contiguous().numpy() for image in images]
        found.append(digest(*arrays, item["observation.state"].numpy(), item["action"].numpy()))
    return found


def main(task: str, options: str) -> None:
    """Do the task and write its result to stdout."""
    logging.disable(logging.WARNING)
    result = {"measure": measure, "verify": verify}[task](json.loads(options))
    sys.stdout.write("\n" + json.dumps(result) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
