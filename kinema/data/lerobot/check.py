"""Whether an episode fits a spec, told before anything is written."""

from __future__ import annotations

import math

import numpy as np

from kinema.core.episode import Episode
from kinema.core.errors import SpecMismatch, nearest
from kinema.core.spec import ACTION, INSTRUCTION, RobotSpec


def frame_keys(spec: RobotSpec) -> tuple[str, ...]:
    """Return the keys that an episode's frames must have: images, vectors, action."""
    return (*(key for key in spec.observation.keys if key != INSTRUCTION), ACTION)


def check_episode(episode: Episode, spec: RobotSpec) -> None:
    """Raise SpecMismatch unless the episode has exactly the frames of `spec`, all of one length, shaped and finite."""
    expected = frame_keys(spec)
    for key in episode.frames:
        if key not in expected:
            raise SpecMismatch(
                f"unexpected {key!r} in the episode{nearest(key, expected)}; expected: {', '.join(expected)}"
            )
    for key in expected:
        if key not in episode.frames:
            raise SpecMismatch(f"the episode has no {key!r}; it has: {', '.join(episode.frames) or 'nothing'}")
    if len(episode) == 0:
        raise SpecMismatch("the episode has no steps")
    for key in expected:
        _check_values(key, episode.frames[key], len(episode), spec)
    if spec.observation.instruction and not (isinstance(episode.instruction, str) and episode.instruction.strip()):
        raise SpecMismatch(f"the episode's instruction is {episode.instruction!r}, expected a non-empty text")
    _check_origin(episode)


def _check_values(key: str, values: np.ndarray, length: int, spec: RobotSpec) -> None:
    step = (spec.action.width,) if key == ACTION else spec.observation.shape(key)
    dtype = np.dtype(np.uint8 if key.startswith("image.") else np.float32)
    if not isinstance(values, np.ndarray) or values.shape != (length, *step) or values.dtype != dtype:
        given = f"shape {values.shape} {values.dtype}" if isinstance(values, np.ndarray) else type(values).__name__
        raise SpecMismatch(f"{key}: {given}, expected shape {(length, *step)} {dtype} (steps counted by the action)")
    if dtype == np.float32 and not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise SpecMismatch(f"{key}: not finite at step {row}: {values[row].tolist()}")


def _check_origin(episode: Episode) -> None:
    for name, value in episode.origin.items():
        plain = type(value) in (str, int, bool) or (type(value) is float and math.isfinite(value))
        if not isinstance(name, str) or not plain:
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            raise SpecMismatch(f"origin {name!r} is {value!r} ({kind}), expected a plain text, whole or finite number")
