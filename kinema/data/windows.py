"""Windows of a dataset: some steps of observation, some steps of action, never across an episode's ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from kinema.core.errors import KinemaError, SpecMismatch
from kinema.core.spec import ACTION, INSTRUCTION, ObservationSpec, RobotSpec
from kinema.data.frames import Frames
from kinema.data.lerobot.reader import Dataset

MASK = "mask"
_TOLERANCE_S = 1e-4


class Samples(Protocol):
    """What batches are made of: numbered windows, of one dataset or of several."""

    def __len__(self) -> int:
        """Return the number of windows."""
        ...

    def batch(self, indices: np.ndarray) -> dict[str, Any]:
        """Return the windows `indices` (B,) as a sample; safe to call from several threads."""
        ...


class Windows:
    """One window per row of the chosen episodes: its keys at steps around that row.

    The common case is `obs_horizon` steps up to the row and `pred_horizon` actions from it, with `keys` choosing the
    observations (all when None). Otherwise `request` says for each key at which times relative to the row it is wanted
    [s], such as {"image.front": (-0.1, 0.0), "action": (0.0, 0.1)}; an instruction comes along where there is one.
    Times must fall on frames of the dataset unless `nearest` takes the nearest frame; nothing is ever interpolated.

    Outside an episode its first or last step is repeated. The action's `mask` is False there; `observation_masks` adds
    the same under `mask.<key>` for each observation. `episodes` chooses episodes by index, in that order. `frames`
    gives a camera's frames by its name, when they are to be resized or not to come from the dataset's cache.
    `columns` are further values of all rows of the dataset (N, ...), given at the observed steps under their names.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        obs_horizon: int | None = None,
        pred_horizon: int | None = None,
        keys: Sequence[str] | None = None,
        request: Mapping[str, Sequence[float]] | None = None,
        nearest: bool = False,
        observation_masks: bool = False,
        episodes: Sequence[int] | None = None,
        frames: Callable[[str], Frames] | None = None,
        columns: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        horizons = (obs_horizon, pred_horizon, keys, columns) != (None, None, None, None)
        if nearest if request is None else horizons:
            raise KinemaError("windows: give either a request in seconds (and how to round it), or horizons and keys")
        self._columns = dict(columns or {})
        if request is None:
            chosen, self.offsets = _horizons(dataset.spec.observation, obs_horizon, pred_horizon, keys)
        else:
            chosen, self.offsets = _requested(dataset.spec, request, nearest)
        self.dataset, self.observation_masks = dataset, observation_masks
        self._past = tuple(range(1 - (obs_horizon or 1), 1))
        self.episodes = check_episodes(dataset, episodes)
        records = [dataset.episodes[index] for index in self.episodes]
        self.lengths = np.array([record.length for record in records])
        self._start = np.repeat([record.start for record in records], self.lengths)
        self._end = self._start + np.repeat(self.lengths, self.lengths)
        self.rows = np.concatenate([np.arange(record.start, record.start + record.length) for record in records])
        """The dataset's row that each window is around, (N,)."""
        self._images = {camera.key: (frames or dataset.frames)(camera.name) for camera in chosen.cameras}
        self.spec: RobotSpec = replace(dataset.spec, observation=_as_read(chosen, self._images))
        self._vectors = {vector.key: dataset.column(vector.key) for vector in chosen.vectors}

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: np.ndarray) -> dict[str, Any]:
        """Return the windows `indices` (B,) as a sample.

        `image.<camera>` (B, T, Hi, Wi, 3) uint8, `vector.<name>` (B, T, D) float32, `instruction` a list of B texts,
        `action` (B, H, A) float32, `mask` (B, H) bool, True for real steps.
        """
        indices = check_indices(indices, len(self))
        row = self.rows[indices]
        steps = {offsets: self._steps(indices, offsets) for offsets in set(self.offsets.values())}
        sample: dict[str, Any] = {}
        for key, frames in self._images.items():
            sample[key] = frames.read(steps[self.offsets[key]][0])
        for key, vector in self._vectors.items():
            sample[key] = vector[steps[self.offsets[key]][0]]
        for key, rows in self._columns.items():
            sample[key] = np.asarray(rows[self._steps(indices, self._past)[0]])
        if self.spec.observation.instruction:
            sample[INSTRUCTION] = list(self.dataset.instructions[row])
        if ACTION in self.offsets:
            rows, mask = steps[self.offsets[ACTION]]
            sample |= {ACTION: self.dataset.column(ACTION)[rows], MASK: mask}
        if self.observation_masks:
            sample |= {f"{MASK}.{key}": steps[self.offsets[key]][1].copy() for key in (*self._images, *self._vectors)}
        return sample

    def _steps(self, indices: np.ndarray, offsets: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return the dataset's rows (B, T) at `offsets` around the windows, and which of them are real steps."""
        wanted = self.rows[indices][:, None] + np.array(offsets)
        first, last = self._start[indices][:, None], self._end[indices][:, None] - 1
        rows = np.clip(wanted, first, last)
        return rows, rows == wanted


def frames_of(
    request: Mapping[str, Sequence[float]], rate_hz: float, *, nearest: bool = False
) -> dict[str, tuple[int, ...]]:
    """Return for each key the offsets in frames at `rate_hz` that its times [s] mean.

    A time that is more than 0.1 ms from a frame is an error, or with `nearest` the nearest frame (of two equally near
    ones the earlier). Same meaning as the `delta_timestamps` of LeRobot.
    """
    found: dict[str, tuple[int, ...]] = {}
    for key, times in request.items():
        if not len(times) or not all(math.isfinite(time) for time in times):
            raise KinemaError(f"request of {key!r}: {tuple(times)!r:.80}; expected one or more times in seconds")
        exact = [time * rate_hz for time in times]
        whole = [math.ceil(frames - 0.5) for frames in exact]
        for time, frames in zip(times, whole, strict=True):
            if not nearest and abs(frames / rate_hz - time) > _TOLERANCE_S:
                raise KinemaError(
                    f"request of {key!r}: {time:g} s is no whole number of frames at {rate_hz:g} Hz; the nearest frame "
                    f"is at {frames / rate_hz:.6g} s\nfix: ask for that, or for the nearest frames (nearest=True)"
                )
        found[key] = tuple(whole)
    return found


def check_indices(indices: np.ndarray, total: int) -> np.ndarray:
    """Return window indices (B,) found to be whole numbers from 0 to below `total`."""
    indices = np.asarray(indices)
    if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer):
        raise KinemaError(f"window indices: shape {indices.shape} {indices.dtype}, expected (B,) whole numbers")
    if indices.size and not (0 <= indices.min() and indices.max() < total):
        raise KinemaError(f"window indices {indices.min()} to {indices.max()}: there are windows 0 to {total - 1}")
    return indices


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


def _as_read(spec: ObservationSpec, images: Mapping[str, Frames]) -> ObservationSpec:
    """Return `spec` with the cameras at the size at which their frames are read."""
    sizes = {key: frames.shape[1:3] for key, frames in images.items()}
    cameras = tuple(replace(c, height=sizes[c.key][0], width=sizes[c.key][1]) for c in spec.cameras)
    return replace(spec, cameras=cameras)


def _horizons(
    observation: ObservationSpec, obs_horizon: int | None, pred_horizon: int | None, keys: Sequence[str] | None
) -> tuple[ObservationSpec, dict[str, tuple[int, ...]]]:
    for name, value in (("obs_horizon", obs_horizon), ("pred_horizon", pred_horizon)):
        if value is None or value < 1:
            raise KinemaError(f"{name} {value}: expected at least 1 step")
    chosen = observation if keys is None else observation.select(tuple(keys))
    past = tuple(range(1 - (obs_horizon or 1), 1))
    seen = [key for key in chosen.keys if key != INSTRUCTION]
    return chosen, dict.fromkeys(seen, past) | {ACTION: tuple(range(pred_horizon or 1))}


def _requested(
    spec: RobotSpec, request: Mapping[str, Sequence[float]], nearest: bool
) -> tuple[ObservationSpec, dict[str, tuple[int, ...]]]:
    if INSTRUCTION in request:
        raise SpecMismatch("request of 'instruction': it has no times, and comes along where the dataset has one")
    keys = tuple(key for key in request if key != ACTION)
    chosen = spec.observation.select((*keys, INSTRUCTION) if spec.observation.instruction else keys)
    return chosen, frames_of(request, spec.rate_hz, nearest=nearest)
