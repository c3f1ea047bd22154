"""Corruptions of capture times: of the content too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from clean_datasets import SENSORS
from corruption_tools import (
    Columns,
    edit_data,
    info,
    some_episode,
)

Rng = np.random.Generator
Said = tuple[str, int | None]
STATE = "observation.state"


def _clock(root: Path, rng: Rng, change: object, check: str) -> Said | None:
    """Let `change(times (T,), period)` write the capture times of one sensor in one episode."""
    features = info(root)["features"]
    if f"captured_ns.{SENSORS[0]}" not in features:
        return None
    episode, period = some_episode(rng), round(1e9 / info(root)["fps"])
    name = f"captured_ns.{rng.choice(SENSORS)}"
    edit_data(root, episode, lambda columns: change(columns[name][:, 0], period))  # type: ignore[operator]
    return check, episode


def capture_backwards(root: Path, rng: Rng) -> Said | None:
    def change(times: np.ndarray, period: int) -> None:
        times[int(rng.integers(2, len(times) - 2)) :] -= int(period * rng.uniform(2.2, 9))

    return _clock(root, rng, change, "capture-order")


def capture_gap(root: Path, rng: Rng) -> Said | None:
    def change(times: np.ndarray, period: int) -> None:
        times[int(rng.integers(2, len(times) - 2)) :] += int(period * rng.integers(1, 5))

    return _clock(root, rng, change, "capture-gap")


def capture_jitter(root: Path, rng: Rng) -> Said | None:
    def change(times: np.ndarray, period: int) -> None:
        times[::2] += int(period * rng.uniform(0.35, 0.5))

    return _clock(root, rng, change, "capture-jitter")


def capture_slow(root: Path, rng: Rng) -> Said | None:
    def change(times: np.ndarray, period: int) -> None:
        times[:] = times[0] + (times - times[0]) * rng.uniform(1.12, 1.35)

    return _clock(root, rng, change, "capture-rate")


def camera_late(root: Path, rng: Rng) -> Said | None:
    def change(times: np.ndarray, period: int) -> None:
        times += int(period * rng.uniform(1.0, 5)) * int(rng.choice([-1, 1]))

    return _clock(root, rng, change, "capture-sync")


def capture_lost(root: Path, rng: Rng) -> Said | None:
    name = f"valid.{rng.choice(SENSORS)}"
    if name not in info(root)["features"]:
        return None
    episode = some_episode(rng)

    def change(columns: Columns) -> None:
        lost = rng.permutation(len(columns[name]))[: max(3, int(rng.uniform(0.1, 0.5) * len(columns[name])))]
        columns[name][lost] = False

    edit_data(root, episode, change)
    return "capture-lost", episode
