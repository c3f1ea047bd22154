"""What a recorder loses when it is killed, how long reopening takes, and how long step() takes while the disk fails.

    python benchmarks/recorder_kill.py             # 200 kills, some minutes, into docs/results/recorder_kill.json
    python benchmarks/recorder_kill.py --kills 8   # to see that it works; give another --out

A child process records episode after episode and reports each commit that returned. It is killed (SIGKILL) half of the
times by itself at a file operation drawn from the seed, half by its parent after a time drawn from the seed. Then the
dataset is reopened, and every row of every committed episode is compared with what was recorded: columns, and the
(episode, camera, row) that is burnt into the pixels.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import results

from kinema.core.errors import KinemaError, UnavailableError
from kinema.core.rng import generator
from kinema.core.spec import ActionSpec, Camera, ObservationSpec, RobotSpec, Vector
from kinema.data.lerobot import draft
from kinema.data.lerobot.files import read_table
from kinema.data.lerobot.reader import open_dataset
from kinema.data.recorder import Recorder
from kinema.data.video import VideoCodec, decode

ROWS, HEIGHT, WIDTH, BLOCK = 12, 32, 48, 8
CODEC = VideoCodec(preset="ultrafast", crf=18)
KILLS_A_DATASET = 25


def robot(height: int = HEIGHT, width: int = WIDTH) -> RobotSpec:
    """Return a robot with two cameras and one vector."""
    names = ("x", "y")
    return RobotSpec(
        embodiment="testarm",
        rate_hz=30.0,
        observation=ObservationSpec(
            cameras=tuple(Camera(name=name, height=height, width=width) for name in ("front", "wrist")),
            vectors=(Vector(name="proprioception", components=names, units=("m", "m"), frame="world"),),
            instruction=True,
        ),
        action=ActionSpec(
            components=names,
            units=("m", "m"),
            frame="world",
            kind="end-effector delta position",
            integrator="controller",
            low=(-1e6, -1e6),
            high=(1e6, 1e6),
        ),
    )


def stamp(episode: int, camera: int, row: int) -> np.ndarray:
    """Return an image (32, 48, 3) uint8 with the three numbers burnt in as blocks that survive the codec."""
    number = 1 << 23 | (episode & 0x7FF) << 12 | camera << 10 | row
    bits = np.array([number >> place & 1 for place in range(24)], np.uint8).reshape(HEIGHT // BLOCK, WIDTH // BLOCK)
    image = np.kron(bits * 190 + 30, np.ones((BLOCK, BLOCK), np.uint8)).astype(np.uint8)
    return np.repeat(image[..., None], 3, axis=2)


def stamped(image: np.ndarray) -> tuple[int, int, int] | None:
    """Return the (episode, camera, row) burnt into an image, or None for one without."""
    blocks = image.reshape(HEIGHT // BLOCK, BLOCK, WIDTH // BLOCK, BLOCK, 3).mean(axis=(1, 3, 4)).reshape(-1)
    number = int(sum(1 << place for place in range(24) if blocks[place] > 125))
    return (number >> 12 & 0x7FF, number >> 10 & 3, number & 0x3FF) if number >> 23 else None


def lost(camera: int, row: int) -> bool:
    """Return whether the recorded camera delivers no frame at this row."""
    return camera == 1 and row % 5 == 3


def record(recorder: Recorder, episode: int, rows: int = ROWS) -> int:
    """Return the index of the episode recorded and committed; its content is a function of its number."""
    recorder.begin(f"task {episode % 7}", origin={"n": episode})
    for row in range(rows):
        images = {
            f"image.{name}": None if lost(camera, row) else stamp(episode, camera, row)
            for camera, name in enumerate(("front", "wrist"))
        }
        values = np.array([episode, row], np.float32)
        captured = dict.fromkeys(("image.front", "image.wrist", "vector.proprioception", "action"), 1000 + row)
        recorder.step({**images, "vector.proprioception": values}, -values, captured)
    return recorder.commit(True)


def record_until_killed(root: str, operations: int, pipe: Connection) -> None:
    """Record for ever; the process ends itself at its file operation number `operations`, if that is not 0."""
    with Recorder(Path(root), robot(), codec=CODEC) as recorder:
        pipe.send(-1)
        if operations:
            _die_at(operations)
        while True:
            pipe.send(record(recorder, len(recorder.writer)))


def _die_at(operations: int) -> None:
    left, flush = [operations], os.fsync

    def count() -> None:
        left[0] -= 1
        if left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.rename", "os.mkdir", "os.rmdir", "os.remove"):
            count()

    def fsync(number: int) -> None:
        count()
        flush(number)

    os.fsync = fsync
    sys.addaudithook(hook)


@dataclass(kw_only=True)
class Tally:
    """What the kills have shown so far."""

    committed: int = 0
    lost: int = 0
    recovery_s: list[float] = field(default_factory=list)
    rows: int = 0


def kills(count: int, work: Path, tell: Callable[[int], None] = lambda done: None) -> Tally:
    """Return what `count` kills lost; a committed episode that changed or an unreadable dataset is a KinemaError."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["kinema.data.recorder", "recorder_kill"])
    tally, seen = Tally(), 0
    for seed in range(count):
        root = work / f"dataset-{seed // KILLS_A_DATASET:03d}"
        if seed % KILLS_A_DATASET == 0:
            seen = 0
        committed = max(seen, _kill(context, root, seed))
        begin = time.monotonic()
        with Recorder(root, robot(), codec=CODEC) as recorder:
            tally.recovery_s.append(time.monotonic() - begin)
            found = len(recorder.writer)
        tally.lost += max(0, committed - found)
        if found > committed + 1:
            raise KinemaError(f"seed {seed}: {found} episodes, though only {committed} were committed")
        tally.rows += check(root, found, since=seen)
        tally.committed += found - seen
        seen = found
        tell(seed + 1)
    return tally


def _kill(context: Any, root: Path, seed: int) -> int:
    """Return how many episodes the dataset has according to a recorder's last words."""
    rng = generator("recorder-kill", seed)
    operations = int(rng.integers(1, 100)) if seed % 2 == 0 else 0
    mine, its = context.Pipe(duplex=False)
    process = context.Process(target=record_until_killed, args=(str(root), operations, its))
    process.start()
    its.close()
    last = -1
    try:
        last = max(last, mine.recv())
        if not operations:
            time.sleep(float(rng.uniform(0, 0.4)))
            process.kill()
        while True:
            last = max(last, mine.recv())
    except (EOFError, ConnectionResetError):
        process.join()
    if process.exitcode != -signal.SIGKILL:
        raise KinemaError(f"seed {seed}: the recorder ended with {process.exitcode} before it was killed")
    return last + 1


def check(root: Path, episodes: int, since: int) -> int:
    """Return the number of rows compared: all columns, and the pixels of the episodes from `since` on."""
    if episodes == 0:
        return 0
    dataset = open_dataset(root)
    numbers = [episode.origin["n"] for episode in dataset.episodes]
    expected = np.stack(np.meshgrid(np.arange(episodes), np.arange(ROWS), indexing="ij"), -1).reshape(-1, 2)
    if numbers != list(range(episodes)) or not np.array_equal(dataset.column("action"), -expected.astype(np.float32)):
        raise KinemaError(f"{root}: the episodes are not those that were recorded")
    for episode in range(since, episodes):
        place = f"chunk-000/file-{episode:03d}"
        valid = read_table(root / f"data/{place}.parquet")["valid.observation.images.wrist"].to_pylist()
        for camera, name in enumerate(("front", "wrist")):
            frames = decode(root / f"videos/observation.images.{name}/{place}.mp4", size=(HEIGHT, WIDTH))
            shown = [stamped(frame) for frame in frames]
            want = [(episode & 0x7FF, camera, row - lost(camera, row)) for row in range(ROWS)]
            if shown != want or valid != [not lost(1, row) for row in range(ROWS)]:
                raise KinemaError(f"{root}: camera {name} of episode {episode} shows {shown}")
    return episodes * ROWS


def steps(count: int, root: Path, fault: str) -> tuple[list[float], str]:
    """Return the duration [s] of each step() at 30 Hz with two 480x640 cameras, and how the episode ended.

    `fault` is what the disk does to the videos: "none", "full" (ENOSPC half way) or "slow" (0.05 s a write).
    """
    recorder = Recorder(root, robot(480, 640), codec=CODEC, queue_frames=8)
    coarse = generator("recorder-steps").integers(0, 255, (60, 80, 3)).astype(np.uint8)
    image = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    values, durations = np.zeros(2, np.float32), []
    keys = ("image.front", "image.wrist", "vector.proprioception", "action")
    draft.open = lambda path, mode: _Faulty(path, fault, count // 2)  # type: ignore[attr-defined]
    try:
        recorder.begin("a task")
        for row in range(count):
            begin = time.monotonic()
            observation = {"image.front": image, "image.wrist": image, "vector.proprioception": values}
            recorder.step(observation, values, dict.fromkeys(keys, row))
            durations.append(time.monotonic() - begin)
            time.sleep(max(0.0, 1 / 30 - durations[-1]))
        frames = sum(recorder.lost.values())
        recorder.commit(True)
    except UnavailableError as error:
        return durations, f"refused: {str(error).partition(str(root))[0]}"
    finally:
        del draft.open  # type: ignore[attr-defined]
    return durations, f"committed with {frames} of {2 * count} frames lost"


class _Faulty:
    """A file whose disk is full after a number of writes, or slow."""

    def __init__(self, path: Path, fault: str, writes: int) -> None:
        self._file, self._fault, self._left = open(path, "wb"), fault, writes  # noqa: SIM115

    def write(self, content: bytes) -> int:
        self._left -= 1
        if self._fault == "full" and self._left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self._fault == "slow":
            time.sleep(0.05)
        return self._file.write(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@dataclass(frozen=True, kw_only=True)
class RecorderKill:
    """Kill recorders at random points and look at what is left; measure step() on a failing disk."""

    kills: int = 200
    """how often a recorder is killed"""
    steps: int = 300
    """control steps timed for each kind of disk"""
    out: Path = results.RESULTS
    """directory of recorder_kill.json"""

    def run(self) -> int:
        """Measure and write the results; returns 1 when a committed episode was lost."""
        from kinema.cli.progress import progress

        with tempfile.TemporaryDirectory() as folder, progress("kill", self.kills) as tell:
            tally = kills(self.kills, Path(folder), lambda done: tell(done, ""))
            timed = {fault: steps(self.steps, Path(folder) / fault, fault) for fault in ("none", "full", "slow")}
        figures: dict[str, Any] = {
            "committed_episodes": results.once(tally.committed, "count", n=self.kills),
            "lost_committed_episodes": results.once(tally.lost, "count", n=self.kills),
            "rows_compared": results.once(tally.rows, "count", n=self.kills),
            "reopening": _spread(tally.recovery_s),
            "step": {fault: {**_spread(durations), "ended": ended} for fault, (durations, ended) in timed.items()},
        }
        path = results.write(
            "recorder_kill",
            figures,
            command="python benchmarks/recorder_kill.py",
            seeds=list(range(self.kills)),
            notes=[
                "SIGKILL keeps what the system has not written to disk yet; a power cut is simulated in the tests.",
                "step: two 480x640 cameras at 30 Hz, queues of 8 frames; full: ENOSPC half way; slow: 0.05 s a write.",
            ],
            directory=self.out,
        )
        sys.stdout.write(f"{path}: {tally.lost} of {tally.committed} committed episodes lost in {self.kills} kills\n")
        return 1 if tally.lost else 0


def _spread(samples: list[float]) -> dict[str, Any]:
    return results.repeated(samples, "s", p99=float(np.quantile(samples, 0.99)))


if __name__ == "__main__":
    sys.exit(results.main(RecorderKill, sys.argv[1:], prog="python benchmarks/recorder_kill.py"))
