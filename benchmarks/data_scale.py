"""What an episode costs as a dataset grows: opening, appending, sampling a batch, before and after compaction.

    python benchmarks/data_scale.py                      # 10, 100 and 1000 episodes, into docs/results/data_scale.json
    python benchmarks/data_scale.py --sizes 10,100,1000,10000

Episodes are tiny (8 rows, one 32x32 camera), so that what is measured is the cost of an episode, not of its pixels.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import results

from kinema.core.episode import Episode
from kinema.core.errors import KinemaError
from kinema.core.rng import generator
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.data.lerobot.compact import compact
from kinema.data.lerobot.reader import open_dataset
from kinema.data.lerobot.writer import DatasetWriter
from kinema.data.video import VideoCodec
from kinema.data.windows import Windows

ROWS, BATCH, APPENDS, BATCHES = 8, 64, 10, 30
SPEC = RobotSpec(
    embodiment="testarm",
    rate_hz=10.0,
    observation=ObservationSpec(
        cameras=(Camera(name="front", height=32, width=32),),
        vectors=(Vector(name="proprioception", components=("x",), units=("m",), frame="world"),),
        instruction=True,
    ),
    action=ActionSpec(
        components=("dx",),
        units=("m",),
        frame="world",
        kind="end-effector delta position",
        integrator="controller",
        low=(-1.0,),
        high=(1.0,),
    ),
)

NOTES = (
    "Opening is of the whole dataset, so its cost per episode is what stays flat; compaction makes it small.",
    "A batch is 64 random windows once every frame was decoded; appending is one episode, committed and flushed.",
)


def episode(number: int) -> Episode:
    """Return a tiny episode of one of ten tasks."""
    rng = generator("data-scale", number)
    frames = {
        "image.front": np.full((ROWS, 32, 32, 3), number % 256, np.uint8),
        "vector.proprioception": rng.normal(size=(ROWS, 1)).astype(np.float32),
        "action": rng.normal(size=(ROWS, 1)).astype(np.float32),
    }
    return Episode(instruction=f"task {number % 10}", frames=frames, success=True, origin={"n": number})


def timed(times: int, call: Callable[[], Any]) -> dict[str, Any]:
    """Return the figure of the duration [s] of `call`, repeated."""
    samples = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        samples.append(time.perf_counter() - begin)
    return results.repeated(samples, "s")


def sampled(root: Path, cache: Path) -> dict[str, Any]:
    """Return the cost of opening for training, and of a random batch once frames are decoded."""
    opening = timed(3, lambda: open_dataset(root, cache=cache))
    windows = Windows(open_dataset(root, cache=cache), obs_horizon=1, pred_horizon=4)
    for begin in range(0, len(windows), BATCH):  # the first epoch decodes
        windows.batch(np.arange(begin, min(begin + BATCH, len(windows))))
    rng = generator("data-scale", "batches")
    batch = timed(BATCHES, lambda: windows.batch(rng.integers(0, len(windows), BATCH)))
    return {"open": opening, "batch_of_64": batch}


@dataclass(frozen=True, kw_only=True)
class DataScale:
    """Grow a dataset and measure at each size."""

    sizes: str = "10,100,1000"
    """numbers of episodes, ascending, separated by commas"""
    out: Path = results.RESULTS
    """directory of data_scale.json"""

    def run(self) -> int:
        """Measure and write the results."""
        sizes = [int(text) for text in self.sizes.split(",")]
        if sizes != sorted(set(sizes)) or sizes[0] < 1:
            raise KinemaError(f"--sizes {self.sizes}: expected ascending numbers of episodes")
        figures = {}
        with tempfile.TemporaryDirectory() as folder:
            root, cache = Path(folder) / "data", Path(folder) / "cache"
            for size in sizes:
                figures[f"{size} episodes"] = self._measure(root, cache, size)
                sys.stdout.write(f"{size} episodes: {_line(figures[f'{size} episodes'])}\n")
                sys.stdout.flush()
            before = time.perf_counter()
            compact(root)
            compacted = {"compaction": results.once(time.perf_counter() - before, "s"), **sampled(root, cache)}
            compacted["open_writer"] = timed(3, lambda: DatasetWriter(root, SPEC))
        figures[f"{sizes[-1]} episodes, compacted"] = compacted
        command = "python benchmarks/data_scale.py" + ("" if self.sizes == "10,100,1000" else f" --sizes {self.sizes}")
        results.write("data_scale", figures, command=command, seeds=[], notes=NOTES, directory=self.out)
        return 0

    def _measure(self, root: Path, cache: Path, size: int) -> dict[str, Any]:
        writer = DatasetWriter(root, SPEC, codec=VideoCodec(preset="ultrafast"))
        while len(writer) < size - APPENDS:
            writer.append(episode(len(writer)))
        append = timed(min(APPENDS, size - len(writer)), lambda: writer.append(episode(len(writer))))
        return {"append": append, "open_writer": timed(3, lambda: DatasetWriter(root, SPEC)), **sampled(root, cache)}


def _line(figures: dict[str, Any]) -> str:
    return ", ".join(f"{name} {1000 * figure['value']:.1f} ms" for name, figure in figures.items())


if __name__ == "__main__":
    sys.exit(results.main(DataScale, sys.argv[1:], prog="python benchmarks/data_scale.py"))
