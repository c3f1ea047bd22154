"""kinema's side of the loader benchmark; a process of its own, started by loader.py with options in JSON."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from loader_timing import digest, forget, timed

from kinema.data.lerobot.reader import open_dataset
from kinema.data.loader import Loader
from kinema.data.stream import stream
from kinema.data.windows import Windows
from kinema.train.memory import keep_freed_memory

LATER = 300
"""Batches of later epochs in one go: enough for a 99th percentile, which an epoch of these datasets is not."""


def opened(options: dict[str, Any]) -> Windows:
    """Return the windows of the dataset."""
    dataset = open_dataset(Path(options["root"]), cache=Path(options["cache"]))
    return Windows(dataset, obs_horizon=options["obs_horizon"], pred_horizon=options["pred_horizon"])


def measure(options: dict[str, Any]) -> dict[str, Any]:
    """Return the speed of the epochs: the first without anything decoded before, the later ones from the cache."""
    keep_freed_memory()  # as training does
    forget(Path(options["root"]))
    shutil.rmtree(options["cache"], ignore_errors=True)
    order = np.concatenate([np.load(path) for path in options["epochs"]])
    count = len(order) // len(options["epochs"])
    if options["stream"]:
        dataset = open_dataset(Path(options["root"]), cache=Path(options["cache"]))
        horizons = {name: options[name] for name in ("obs_horizon", "pred_horizon")}
        loader = stream(dataset, **horizons, batch_size=order.shape[1], seed=0, memory_bytes=options["stream"])
    else:
        windows = opened(options)
        loader = Loader(windows, batch_size=order.shape[1], seed=0, draws=lambda step: order[step % len(order)])
    found = {}
    for number in range(len(options["epochs"])):
        # Each epoch begins anew, as LeRobot's does: nothing of it is prepared before the clock starts.
        batches = loader.batches(number * count)
        found[f"epoch {number + 1}"] = timed(batches, count, count * order.shape[1])
        batches.close()
    found["later epochs"] = timed(loader.batches(count), LATER, LATER * order.shape[1])
    loader.prefetch = 0
    found["later epochs, not prefetched"] = timed(loader.batches(count), LATER, LATER * order.shape[1])
    shutil.rmtree(options["cache"], ignore_errors=True)
    return found


def verify(options: dict[str, Any]) -> list[str]:
    """Return the digests of items: images uint8 (T, Hi, Wi, 3) of each camera, state and action."""
    windows = opened(options)
    found = []
    for index in np.load(options["items"]):
        item = windows.batch(np.array([index]))
        images = [item["image." + key.removeprefix("observation.images.")][0] for key in options["cameras"]]
        found.append(digest(*images, item["vector.proprioception"][0], item["action"][0]))
    return found


def main(task: str, options: str) -> None:
    """Do the task and write its result to stdout."""
    result = {"measure": measure, "verify": verify}[task](json.loads(options))
    sys.stdout.write("\n" + json.dumps(result) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
