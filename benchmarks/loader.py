"""How fast training gets its batches, against LeRobot's loader: same files, windows and order, outputs the same bits.

    sh benchmarks/lerobot_environment.sh        # once: LeRobot in an environment of its own
    python benchmarks/loader.py                 # into docs/results/loader.json
    python benchmarks/loader.py --quick         # a minute, to see that it works; into WORK/quick, not into docs

Two datasets of a moving textured scene, 96x96 from one camera and 480x640 from two, in LeRobot's default codec (AV1,
two frames a key frame, yuv420p, crf 30) and layout (one file per camera), and the small one in kinema's own as well.
Windows are two steps of observation and 16 of action. First 1,000 random items are compared bit by bit; then LeRobot's
best setting is looked for; then both take turns, each time in a new process, with the dataset's files dropped from the
page cache: an epoch with nothing decoded before, and the next one. Every epoch counts from asking for the first batch
to having the last. LeRobot hands out float32 (C, Hi, Wi) tensors, kinema uint8 (Hi, Wi, C) arrays.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import results
from loader_scene import Data, datasets, made

from kinema.core.errors import KinemaError
from kinema.core.rng import generator

HERE = Path(__file__).parent
SETTINGS = tuple((backend, workers) for backend in ("torchcodec", "pyav") for workers in (0, 2, 4))
HORIZONS = {"obs_horizon": 2, "pred_horizon": 16}
MEASURES = {"samples_per_s": "samples/s", "p50_ms": "ms", "p99_ms": "ms", "first_ms": "ms", "resident_mib": "MiB"}
STREAM_BYTES = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class Loading:
    """Measure kinema's and LeRobot's loaders in turns."""

    quick: bool = False
    """small datasets and two rounds, to see that it works; writes WORK/quick/loader.json"""
    rounds: int = 5
    """how often both take their turn"""
    batch_size: int = 32
    """windows per batch"""
    lerobot: Path = Path("runs/bench/lerobot")
    """environment made by lerobot_environment.sh"""
    work: Path = Path("runs/bench/loader")
    """directory of the datasets"""
    out: Path = results.RESULTS
    """directory of loader.json"""

    def run(self) -> int:
        """Measure each dataset and write the results after each."""
        if not (self.lerobot / "bin/python").is_file():
            raise KinemaError(f"{self.lerobot} is missing: sh benchmarks/lerobot_environment.sh {self.lerobot}")
        figures: dict[str, Any] = {}
        for data in datasets(quick=self.quick):
            figures[data.name] = self._compared(data)
            path = results.write(
                "loader",
                figures,
                command="python benchmarks/loader.py" + " --quick" * self.quick,
                seeds=[0],
                notes=NOTES,
                directory=self.work / "quick" if self.quick else self.out,
                lerobot=self._versions(),
            )
        sys.stdout.write(f"{path}\n")
        return 0

    def _compared(self, data: Data) -> dict[str, Any]:
        root = made(data, self.work)
        options = self._options(data, root)
        items = 100 if self.quick else 1000
        say(f"{data.name}: comparing {items} items")
        np.save(self.work / "items.npy", generator("items").integers(0, data.frames, items))
        options["items"] = str(self.work / "items.npy")
        ours, theirs = self._kinema("verify", options), self._lerobot("verify", options)
        same = sum(a == b for a, b in zip(ours, theirs, strict=True))
        if same != items:
            raise KinemaError(f"{data.name}: {items - same} of {items} items differ between kinema and LeRobot")
        settings = self._settings(data, options)
        best = max(settings, key=lambda name: settings[name].get("samples_per_s", 0.0))
        backend, workers = best.split(", ")
        options |= {"backend": backend, "workers": int(workers.split()[0])}
        kinema, streamed, lerobot = [], [], []
        for number in range(2 if self.quick else self.rounds):
            say(f"{data.name}: round {number + 1}, LeRobot with {best}")
            kinema.append(self._kinema("measure", options))
            lerobot.append(self._lerobot("measure", options))
            streamed.append(self._kinema("measure", {**options, "stream": STREAM_BYTES}))
        shutil.rmtree(options["cache"], ignore_errors=True)
        return {
            "cameras": len(data.cameras),
            "size": f"{data.height}x{data.width}",
            "codec": data.codec.encoder,
            "frames": data.frames,
            "batch_size": self.batch_size,
            "identical items": results.once(same, "count", n=items),
            "lerobot setting": best,
            "lerobot settings": {name: setting_figure(found) for name, found in settings.items()},
            "kinema": side(kinema),
            "kinema streaming": side(streamed),
            "lerobot": side(lerobot),
            "first epoch ratio": ratio(kinema, lerobot, "epoch 1"),
            "cached epoch ratio": ratio(kinema, lerobot, "epoch 2"),
            "streaming ratio": ratio(streamed, lerobot, "epoch 2"),
        }

    def _options(self, data: Data, root: Path) -> dict[str, Any]:
        """Return what both sides are told, the order of the windows in files among it."""
        epochs = []
        for number in range(2):
            order = generator("epoch", number).permutation(data.frames)
            path = self.work / f"{data.name}-epoch-{number}.npy"
            np.save(path, order[: len(order) // self.batch_size * self.batch_size].reshape(-1, self.batch_size))
            epochs.append(str(path))
        cameras = [f"observation.images.{camera}" for camera in data.cameras]
        more = {"fps": data.fps, "cameras": cameras, "backend": "torchcodec", "workers": 0, "stream": 0}
        cache = self.work / f"{data.name}-cache"
        return {"root": str(root), "cache": str(cache), "epochs": epochs, **HORIZONS, **more}

    def _settings(self, data: Data, options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the speed of an epoch with each of LeRobot's settings, or what went wrong with it."""
        found: dict[str, dict[str, Any]] = {}
        broken: dict[str, str] = {}
        for backend, workers in SETTINGS:
            name = f"{backend}, {workers} workers"
            say(f"{data.name}: LeRobot with {name}")
            once = {**options, "backend": backend, "workers": workers, "epochs": options["epochs"][:1]}
            try:
                if backend not in broken:
                    found[name] = self._lerobot("measure", once)["epoch 1"]
            except KinemaError as error:
                broken[backend] = str(error).splitlines()[-1]
            if backend in broken:
                found[name] = {"broken": broken[backend]}
        return found

    def _kinema(self, task: str, options: Mapping[str, Any]) -> Any:
        return started(Path(sys.executable), "loader_kinema.py", task, options, {})

    def _lerobot(self, task: str, options: Mapping[str, Any]) -> Any:
        libraries = next((self.lerobot / "lib").glob("python3*/site-packages/av.libs")).absolute()
        more = {"LD_LIBRARY_PATH": str(libraries), "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(self.work / "hf")}
        return started(self.lerobot / "bin/python", "loader_lerobot.py", task, options, more)

    def _versions(self) -> dict[str, str]:
        names = ("lerobot", "torch", "torchcodec", "av", "datasets")
        code = f"import importlib.metadata as m; print(*(m.version(name) for name in {names!r}))"
        done = subprocess.run([self.lerobot / "bin/python", "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
        return dict(zip(names, done.stdout.split(), strict=True))


NOTES = (
    "Values are medians over rounds; a ratio is taken within each round, kinema over LeRobot, then its median.",
    "p50 and p99 leave out the first batch, which has its own column; p99 of one epoch is its slowest batch.",
    "Resident memory is of the process and its children, shared pages counted once; the page cache is not in it.",
    "The cold start drops the dataset's files from the page cache with posix_fadvise, LeRobot's arrow cache excepted.",
)


def say(text: str) -> None:
    """Tell what is being done."""
    sys.stderr.write(f"{text}\n")


def started(python: Path, script: str, task: str, options: Mapping[str, Any], environment: Mapping[str, str]) -> Any:
    """Return what a process of its own found out."""
    command = [str(python.absolute()), str(HERE / script), task, json.dumps(dict(options))]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)  # noqa: S603
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise KinemaError(f"{script} {task} failed with {done.returncode}:\n{last}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def side(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of one side, by epoch."""
    return {
        epoch: {name: results.repeated([turn[epoch][name] for turn in rounds], unit) for name, unit in MEASURES.items()}
        for epoch in rounds[0]
    }


def ratio(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], epoch: str) -> dict[str, Any]:
    """Return how many times as fast the first is, round by round."""
    pairs = zip(ours, theirs, strict=True)
    return results.repeated([a[epoch]["samples_per_s"] / b[epoch]["samples_per_s"] for a, b in pairs], "times as fast")


def setting_figure(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figure of one of LeRobot's settings."""
    if "broken" in found:
        return results.unavailable(found["broken"])
    return results.once(found["samples_per_s"], "samples/s")


def main(arguments: list[str]) -> int:
    """Return the exit code of the benchmark run with `arguments`."""
    return results.main(Loading, arguments, prog="loader")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
