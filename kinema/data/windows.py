"""Windows of a dataset: some steps of observation, some steps of action, never across an episode's ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kinema.core.errors import KinemaError
from kinema.core.spec import ACTION, INSTRUCTION, RobotSpec
from kinema.data.lerobot.reader import Dataset


class Windows:
    """One window per row of the chosen episodes: `obs_horizon` steps up to it and `pred_horizon` actions from it.

    Before an episode's first step the first observation is repeated; past its end the last action is repeated and
    the mask is False. `keys` chooses observations (all when None); `episodes` chooses episodes by index, in that order.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        obs_horizon: int,
        pred_horizon: int,
        episodes: Sequence[int] | None = None,
        keys: Sequence[str] | None = None,
    ) -> None:
        for name, value in (("obs_horizon", obs_horizon), ("pred_horizon", pred_horizon)):
            if value < 1:
                raise KinemaError(f"{name} {value}: expected at least 1 step")
        self.dataset, self.obs_horizon, self.pred_horizon = dataset, obs_horizon, pred_horizon
        observation = dataset.spec.observation
        chosen = observation if keys is None else observation.select(tuple(keys))
        self.spec: RobotSpec = replace(dataset.spec, observation=chosen)
        self.episodes = check_episodes(dataset, episodes)
        starts = np.array([dataset.episodes[index].start for index in self.episodes])
        lengths = np.array([dataset.episodes[index].length for index in self.episodes])
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        self._start = np.repeat(starts, lengths)
        self._end = np.repeat(starts + lengths, lengths)
        self._row = self._start + within
        self._images = {camera.key: dataset.images(camera.name) for camera in chosen.cameras}
        self._vectors = {vector.key: dataset.column(vector.key) for vector in chosen.vectors}
        self._action = dataset.column(ACTION)

    def __len__(self) -> int:
        return len(self._row)

    def batch(self, indices: np.ndarray) -> dict[str, Any]:
        """Return the windows `indices` (B,) as a sample.

        `image.<camera>` (B, T, Hi, Wi, 3) uint8, `vector.<name>` (B, T, D) float32, `instruction` a list of B texts,
        `action` (B, H, A) float32, `mask` (B, H) bool, True for real steps.
        """
        indices = np.asarray(indices)
        if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer):
            raise KinemaError(f"window indices: shape {indices.shape} {indices.dtype}, expected (B,) whole numbers")
        if indices.size and not (0 <= indices.min() and indices.max() < len(self)):
            raise KinemaError(
                f"window indices {indices.min()} to {indices.max()}: there are windows 0 to {len(self) - 1}"
            )
        row, start, end = self._row[indices], self._start[indices], self._end[indices]
        past = np.maximum(row[:, None] + np.arange(1 - self.obs_horizon, 1), start[:, None])
        future = row[:, None] + np.arange(self.pred_horizon)
        mask = future < end[:, None]
        sample: dict[str, Any] = {key: _gather(source, past) for key, source in self._images.items()}
        sample |= {key: source[past] for key, source in self._vectors.items()}
        if self.spec.observation.instruction:
            sample[INSTRUCTION] = list(self.dataset.instructions[row])
        sample[ACTION] = self._action[np.minimum(future, end[:, None] - 1)]
        sample["mask"] = mask
        return sample


def _gather(source: np.ndarray, rows: np.ndarray) -> np.ndarray:
    # `take` into a plain array: a fancy-indexed memmap would come back as a memmap subclass.
    return np.take(np.asarray(source), rows, axis=0)


def check_episodes(dataset: Dataset, episodes: Sequence[int] | None) -> tuple[int, ...]:
    """Return the chosen episode indices, all when None; raises KinemaError for an unknown, repeated or empty choice."""
    total = len(dataset.episodes)
    if episodes is None:
        return tuple(range(total))
    chosen = tuple(int(index) for index in episodes)
    for index in chosen:
        if not 0 <= index < total:
            raise KinemaError(f"no episode {index}: {dataset.root} has episodes 0 to {total - 1}")
    if not chosen or len(set(chosen)) != len(chosen):
        raise KinemaError("no episode is chosen" if not chosen else "an episode is chosen twice")
    return chosen
