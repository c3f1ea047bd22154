"""Writes the Minari golden with its DataCollector: `python tests/goldens/make_minari.py` (minari[create,hdf5])."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
LENGTHS = (5, 3)


def picture(episode: int) -> np.ndarray:
    """Return (48, 64, 3) uint8: a ramp in each colour."""
    rows, columns = np.mgrid[0:48, 0:64]
    return np.stack([40 + 2 * rows, 60 + 2 * columns, np.full_like(rows, 80 + 40 * episode)], axis=-1).astype(np.uint8)


def observation(episode: int, step: int) -> dict[str, Any]:
    """Return what is seen at one step: a picture, a pose and the mission in words."""
    pose = np.array([episode, step, 0.1])
    return {"camera": picture(episode), "state": {"pose": pose}, "mission": f"mission {'ab'[episode]}"}


def actions(episode: int) -> np.ndarray:
    return np.random.default_rng(episode).uniform(-1, 1, (LENGTHS[episode], 2)).astype(np.float32)


def main() -> None:
    os.environ["MINARI_DATASETS_PATH"] = str(HERE / "minari")
    import gymnasium
    import minari
    from gymnasium import spaces

    class Toy(gymnasium.Env):
        action_space = spaces.Box(np.float32([-1, -2]), np.float32([1, 2]))
        observation_space = spaces.Dict(
            {
                "camera": spaces.Box(0, 255, (48, 64, 3), np.uint8),
                "state": spaces.Dict({"pose": spaces.Box(-np.inf, np.inf, (3,), np.float64)}),
                "mission": spaces.Text(30, charset="abimnos "),
            }
        )
        episode = -1

        def reset(self, *, seed=None, options=None):
            self.episode, self.steps = self.episode + 1, 0
            return observation(min(self.episode, 1), 0), {"success": False}

        def step(self, action):
            self.steps += 1
            done = self.steps == LENGTHS[self.episode]
            return observation(self.episode, self.steps), 1.0, done, False, {"success": done and self.episode == 0}

    shutil.rmtree(HERE / "minari", ignore_errors=True)
    collector = minari.DataCollector(Toy(), record_infos=True)
    for episode in range(2):
        collector.reset()
        for action in actions(episode):
            collector.step(action)
    collector.create_dataset("toy/test-v0")


if __name__ == "__main__":
    main()
