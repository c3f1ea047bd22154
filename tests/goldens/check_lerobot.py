"""Load with LeRobot a dataset that kinema wrote, and write down how its items differ from what kinema reads.

    python tests/goldens/check_lerobot.py write DIRECTORY        (where kinema is installed)
    python tests/goldens/check_lerobot.py compare DIRECTORY OUT.json   (where lerobot is installed)

`write` makes the dataset DIRECTORY/dataset and DIRECTORY/items.npz, all that kinema reads from it. LeRobot 0.4.4 needs
torch, torchcodec and datasets; see feature by feature in OUT.json.
"""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np


def write(folder: Path) -> None:
    """Write a small dataset with two cameras, two tasks and capture times, and what kinema reads from it."""
    from kinema.core.episode import Episode
    from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
    from kinema.data.lerobot.layout import feature_key
    from kinema.data.lerobot.reader import open_dataset
    from kinema.data.lerobot.writer import DatasetWriter

    units = ("m", "m")
    action = ActionSpec(
        components=("dx", "dy"), units=units, frame="world", kind="delta", integrator="robot",
        low=(-9.0, -9.0), high=(9.0, 9.0),
    )  # fmt: skip
    observation = ObservationSpec(
        cameras=(Camera(name="front", height=32, width=48), Camera(name="wrist", height=48, width=64)),
        vectors=(
            Vector(name="proprioception", components=("x", "y"), units=units, frame="world"),
            Vector(name="force", components=("f",), units=("N",), frame="gripper"),
        ),
        instruction=True,
    )
    spec = RobotSpec(embodiment="testarm", rate_hz=10.0, observation=observation, action=action)
    writer = DatasetWriter(folder / "dataset", spec, captured=("image.front", "action"), valid=("image.front",))
    for index, length in enumerate((6, 1, 9, 4)):
        rng = np.random.default_rng(index)
        frames = {f"image.{c.name}": np.zeros((length, c.height, c.width, 3), np.uint8) for c in observation.cameras}
        for step in range(length):
            for values in frames.values():
                values[step] = 60 + 40 * index
                values[step, 3 * step : 3 * step + 8, 4 * step : 4 * step + 8] = (230, 20 * step, 40)
        for key, width in (("vector.proprioception", 2), ("vector.force", 1), ("action", 2)):
            frames[key] = rng.normal(size=(length, width)).astype(np.float32)
        stamps = np.arange(length, dtype=np.int64) * 100_000_007
        writer.append(
            Episode(
                instruction=("push the block", "öffne die Schublade")[index % 2],
                frames=frames,
                success=True,
                captured_ns={"image.front": stamps, "action": stamps + 5},
                valid={"image.front": np.arange(length) % 3 != 2},
            )
        )
    dataset = open_dataset(folder / "dataset")
    items = {feature_key(key): dataset.column(key) for key in ("vector.proprioception", "vector.force", "action")}
    items |= {feature_key(f"image.{name}"): dataset.images(name) for name in ("front", "wrist")}
    for key in ("image.front", "action"):
        items[f"captured_ns.{feature_key(key)}"] = dataset.captured_ns(key)
    items["valid.observation.images.front"] = dataset.valid("image.front")
    items["task"] = dataset.instructions.astype(str)
    items["episode_index"] = np.repeat([e.index for e in dataset.episodes], [e.length for e in dataset.episodes])
    np.savez_compressed(folder / "items.npz", **items)


def compare(folder: Path, out: Path) -> None:
    """Write the largest difference of every feature over all items, and the versions."""
    import lerobot_shim  # noqa: F401 - must come before lerobot
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("checked/dataset", root=folder / "dataset")
    rows = [dataset[index] for index in range(len(dataset))]
    with np.load(folder / "items.npz", allow_pickle=False) as file:
        expected = dict(file)
    differences = {}
    for name, values in expected.items():
        if name == "task":
            differences[name] = int(sum(row["task"] != text for row, text in zip(rows, values, strict=True)))
            continue
        found = np.stack([row[name].numpy() for row in rows])
        if name in dataset.meta.camera_keys:
            found = np.rint(found.transpose(0, 2, 3, 1) * 255)
        difference = found.reshape(values.shape).astype(np.float64) - values.astype(np.float64)
        differences[name] = float(np.abs(difference).max())
    wanted = {"action": [0.0, 0.1], "observation.state": [-0.1, 0.0]}
    windows = LeRobotDataset("checked/dataset", root=folder / "dataset", delta_timestamps=wanted)
    packages = ("lerobot", "torch", "torchcodec", "datasets", "av", "numpy")
    facts = {
        "episodes": dataset.num_episodes,
        "items": len(rows),
        "largest_difference": differences,
        "window_shapes": {name: list(windows[0][name].shape) for name in ("action", "observation.state")},
        "stats_loaded": sorted(dataset.meta.stats) == sorted(dataset.meta.features),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
    }
    out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]))
    else:
        compare(Path(sys.argv[2]), Path(sys.argv[3]))
