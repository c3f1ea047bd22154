"""Write the small datasets of tests/goldens/lerobot with LeRobot itself, and beside each what LeRobot reads from it.

    python tests/goldens/make_lerobot.py tests/goldens/lerobot

Needs an environment with lerobot 0.4.4 (writes v3.0) or 0.3.3 (writes v2.1), torchcodec and numpy below 2.4.
Each `<name>.npz` holds every column of every row, and under `frames/<feature>` (N, Hi, Wi, 3) uint8 the frames that
LeRobot decodes.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import lerobot_shim  # noqa: F401 - must come before lerobot
import numpy as np
from lerobot.datasets.lerobot_dataset import CODEBASE_VERSION, LeRobotDataset

HEIGHT, WIDTH, FPS = 32, 48, 10
LENGTHS = (5, 3, 6, 4)
TASKS = ("push the block", "öffne die Schublade")
NUMBERS = {
    "observation.state": ("float32", (3,), ["x", "y", "z"]),
    "observation.effort": ("float64", (2,), ["a", "b"]),
    "observation.counter": ("int64", (1,), ["ticks"]),
    "observation.gripper": ("float32", (1,), None),
    "action": ("float32", (2,), ["dx", "dy"]),
    "next.reward": ("float32", (1,), None),
    "next.success": ("bool", (1,), None),
}


def features(cameras: dict[str, str]) -> dict[str, dict[str, object]]:
    """Return the features of a dataset with `cameras`, each of dtype "video" or "image"."""
    numbers = {name: {"dtype": d, "shape": shape, "names": names} for name, (d, shape, names) in NUMBERS.items()}
    images = {
        f"observation.images.{name}": {
            "dtype": dtype,
            "shape": (HEIGHT, WIDTH, 3),
            "names": ["height", "width", "channels"],
        }
        for name, dtype in cameras.items()
    }
    return numbers | images


def picture(camera: int, episode: int, step: int) -> np.ndarray:
    """Return an image (Hi, Wi, 3) uint8 that is unlike those of other cameras, episodes and steps."""
    image = np.full((HEIGHT, WIDTH, 3), 40 + 50 * camera, np.uint8)
    image[4 * episode : 4 * episode + 6, 6 * step : 6 * step + 8] = (230, 200 - 40 * episode, 30 + 30 * step)
    return image


def numbers(episode: int, step: int, length: int) -> dict[str, np.ndarray]:
    """Return one row of every feature that is no image."""
    rng = np.random.default_rng((episode, step))
    row = {}
    for name, (dtype, shape, _) in NUMBERS.items():
        row[name] = (rng.normal(size=shape) * 100 if dtype != "bool" else np.zeros(shape)).astype(dtype)
    row["next.success"][:] = step == length - 1 and episode != 2
    return row


def make(root: Path, cameras: dict[str, str]) -> None:
    """Write a dataset at `root`."""
    shutil.rmtree(root, ignore_errors=True)
    dataset = LeRobotDataset.create(
        f"golden/{root.name}",
        FPS,
        features(cameras),
        root=root,
        robot_type="testarm",
        use_videos="video" in [*cameras.values()],
    )
    for episode, length in enumerate(LENGTHS):
        task = TASKS[episode % 2]
        for step in range(length):
            frame = numbers(episode, step, length)
            for place, camera in enumerate(cameras):
                frame[f"observation.images.{camera}"] = picture(place, episode, step)
            if CODEBASE_VERSION == "v3.0":
                dataset.add_frame(frame | {"task": task})
            else:
                dataset.add_frame(frame, task=task)
        dataset.save_episode()
    if CODEBASE_VERSION == "v3.0":
        dataset.finalize()
    shutil.rmtree(root / "images", ignore_errors=True)


def items(root: Path) -> dict[str, np.ndarray]:
    """Return all that LeRobot reads from the dataset at `root`, stacked over rows."""
    dataset = LeRobotDataset(f"golden/{root.name}", root=root)
    rows = [dataset[index] for index in range(len(dataset))]
    table: dict[str, np.ndarray] = {"task": np.array([row["task"] for row in rows])}
    for name, value in rows[0].items():
        if name in dataset.meta.camera_keys:
            images = np.stack([row[name].numpy() for row in rows]).transpose(0, 2, 3, 1)
            table[f"frames/{name}"] = np.rint(images * 255).astype(np.uint8)
        elif hasattr(value, "numpy"):
            table[name] = np.stack([row[name].numpy() for row in rows])
    return table


def main() -> None:
    """Write the goldens of the installed version of LeRobot."""
    folder = Path(sys.argv[1])
    version = CODEBASE_VERSION.replace(".", "")
    wanted = {f"{version}_video": {"front": "video", "wrist": "video"}}
    if version == "v30":
        wanted[f"{version}_image"] = {"front": "image"}
    for name, cameras in wanted.items():
        make(folder / name, cameras)
        np.savez_compressed(folder / f"{name}.npz", **items(folder / name))


if __name__ == "__main__":
    main()
