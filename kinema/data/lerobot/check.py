"""Whether an episode fits a spec, told before anything is written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from kinema.core.episode import Episode
from kinema.core.errors import SpecMismatch, nearest
from kinema.core.spec import ACTION, INSTRUCTION, RobotSpec
from kinema.data.image_stream import ImageStream


def frame_keys(spec: RobotSpec) -> tuple[str, ...]:
    """Return the keys that an episode's frames must have: images, vectors, action."""
    return (*(key for key in spec.observation.keys if key != INSTRUCTION), ACTION)


def check_timing_keys(spec: RobotSpec, captured: Iterable[str], valid: Iterable[str]) -> None:
    """Raise SpecMismatch unless all keys that are to say when and whether they were captured are keys of the frames."""
    known = frame_keys(spec)
    for kind, keys in (("captured", captured), ("valid", valid)):
        for key in keys:
            if key not in known:
                raise SpecMismatch(f"{kind}: there is no {key!r}{nearest(key, known)}; there are: {', '.join(known)}")


def check_episode(episode: Episode, spec: RobotSpec, captured: Iterable[str] = (), valid: Iterable[str] = ()) -> None:
    """Raise SpecMismatch unless the episode has exactly the frames of `spec`, all of one length, shaped and finite.

    `captured` are the keys that must say when they were captured, in times that never go back, `valid` those that must
    say which of their rows are; no others may.
    """
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
    check_words(episode.instruction, episode.origin, spec)
    _check_timing("captured_ns", np.dtype(np.int64), episode.captured_ns, tuple(captured), len(episode))
    _check_timing("valid", np.dtype(bool), episode.valid, tuple(valid), len(episode))


def _check_timing(
    kind: str, dtype: np.dtype, given: Mapping[str, np.ndarray], expected: tuple[str, ...], length: int
) -> None:
    for key in given:
        if key not in expected:
            where = f"expected for: {', '.join(expected)}" if expected else "the dataset was made without"
            raise SpecMismatch(f"unexpected {kind} of {key!r}{nearest(key, expected)}; {where}")
    for key in expected:
        if key not in given:
            raise SpecMismatch(f"the episode has no {kind} of {key!r}, which the dataset was made with")
        values = given[key]
        if not isinstance(values, np.ndarray) or values.shape != (length,) or values.dtype != dtype:
            have = f"shape {values.shape} {values.dtype}" if isinstance(values, np.ndarray) else type(values).__name__
            raise SpecMismatch(f"{kind} of {key!r}: {have}, expected shape {(length,)} {dtype}")
        if dtype == np.int64 and (values[1:] < values[:-1]).any():
            row = int(np.flatnonzero(values[1:] < values[:-1])[0])
            raise SpecMismatch(f"{kind} of {key!r} goes back after step {row}: {values[row]}, then {values[row + 1]}")


def _check_values(key: str, values: np.ndarray | ImageStream, length: int, spec: RobotSpec) -> None:
    step = (spec.action.width,) if key == ACTION else spec.observation.shape(key)
    dtype = np.dtype(np.uint8 if key.startswith("image.") else np.float32)
    known = isinstance(values, (np.ndarray, ImageStream))
    if not known or values.shape != (length, *step) or values.dtype != dtype:
        given = f"shape {values.shape} {values.dtype}" if known else type(values).__name__
        raise SpecMismatch(f"{key}: {given}, expected shape {(length, *step)} {dtype} (steps counted by the action)")
    if isinstance(values, np.ndarray) and dtype == np.float32 and not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise SpecMismatch(f"{key}: not finite at step {row}: {values[row].tolist()}")


def check_words(instruction: str, origin: Mapping[str, object], spec: RobotSpec) -> None:
    """Raise SpecMismatch unless an episode of `spec` can have this instruction and this origin."""
    if spec.observation.instruction and not (isinstance(instruction, str) and instruction.strip()):
        raise SpecMismatch(f"the episode's instruction is {instruction!r}, expected a non-empty text")
    for name, value in origin.items():
        plain = type(value) in (str, int, bool) or (type(value) is float and math.isfinite(value))
        if not isinstance(name, str) or not plain:
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            raise SpecMismatch(f"origin {name!r} is {value!r} ({kind}), expected a plain text, whole or finite number")
