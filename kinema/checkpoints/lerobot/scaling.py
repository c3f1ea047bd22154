"""How LeRobot scales what goes in and comes out, as a `Normalise` and as mean and deviation of pixels, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from kinema.checkpoints.lerobot.directory import ACTION, IMAGES, STATE, Directory
from kinema.core.errors import CheckpointError, unknown
from kinema.nets.encoders.resnet import ResNet
from kinema.policies.base import PolicyConfig
from kinema.transforms.normalise import MODES, Normalise

Colours = tuple[float, float, float]
Stored = dict[str, dict[str, np.ndarray]]
NAMES = {"MEAN_STD": "mean_std", "MIN_MAX": "min_max", "QUANTILES": "quantile"}


def normalise(found: Directory) -> tuple[Normalise, ...]:
    """Return the transform of state and action, or none where neither is scaled.

    A component of the state that never changed is -1 for LeRobot's "MIN_MAX" and 0 for kinema: its maximum is moved up
    by 2, so that it is -1 here too; for "MEAN_STD" it is 0 in both, and its deviation becomes 1. Raises CheckpointError
    for a checkpoint without statistics.
    """
    modes, statistics = {}, {}
    for key in (STATE, ACTION):
        mode = _mode(found, key) if key in found.inputs else None
        if mode is None:
            continue
        own = ACTION if key == ACTION else f"vector.{found.state}"
        values = {name: value.astype(np.float64) for name, value in _values(found, key, MODES[mode][:2]).items()}
        if key == STATE:
            low, high = MODES[mode][:2]
            still, moved = (0.0, 1.0) if mode == "mean_std" else (values[low], values[low] + 2.0)
            values[high] = np.where(values[high] == still, moved, values[high])
        modes[own], statistics[own] = mode, values
    return (Normalise(modes=modes, statistics=statistics),) if modes else ()


def pixels(found: Directory) -> tuple[Colours, Colours]:
    """Return mean and deviation of pixels / 255; raises CheckpointError where cameras differ in them."""
    scales = {}
    mode = found.modes.get("VISUAL", "IDENTITY")
    for key, kind in found.types.items():
        if kind != "VISUAL":
            continue
        if mode == "IDENTITY":
            scales[key] = (np.zeros(3), np.ones(3))
            continue
        if mode not in ("MEAN_STD", "MIN_MAX"):
            raise unknown("normalisation of images", mode, ("MEAN_STD", "MIN_MAX", "IDENTITY"))
        first, second = _values(found, key, MODES[NAMES[mode]]).values()
        scales[key] = (first, second) if mode == "MEAN_STD" else ((first + second) / 2, (second - first) / 2)
    mean, deviation = next(iter(scales.values()))
    for key, own in scales.items():
        if not (np.array_equal(own[0], mean) and np.array_equal(own[1], deviation)):
            raise CheckpointError(
                f"{found.path}: images of {key!r} are scaled otherwise than those of {next(iter(scales))!r}"
            )
    return _colours(mean), _colours(deviation)


def entries(config: PolicyConfig, state: str | None, cameras: Sequence[str]) -> tuple[dict[str, str], Stored]:
    """Return LeRobot's normalization_mapping for `config`, and its statistics by LeRobot's names.

    A component that kinema calls constant is one for LeRobot as well, and reaches the policy as 0.
    """
    scaled = [transform for transform in config.transforms if isinstance(transform, Normalise)]
    modes, stored = dict.fromkeys(("VISUAL", "STATE", "ACTION"), "IDENTITY"), {}
    for key, mode in (scaled[0].modes if scaled else {}).items():
        if mode not in NAMES.values() or scaled[0].keep or scaled[0].statistics is None:
            raise CheckpointError(
                f"LeRobot cannot scale {key!r} as this policy does: by {mode!r}, keep {scaled[0].keep}"
            )
        kind, feature = ("ACTION", ACTION) if key == ACTION else ("STATE", STATE)
        if key not in (ACTION, f"vector.{state}"):
            raise CheckpointError(f"LeRobot's policies read one vector, {STATE!r}; this one also scales {key!r}")
        modes[kind] = next(name for name, own in NAMES.items() if own == mode)
        stored[feature] = _constants_kept(scaled[0], key)
    images = [encoder for encoder in config.encoders.values() if isinstance(encoder, ResNet)]
    for encoder in images:
        if (encoder.mean, encoder.deviation) != ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)):
            modes["VISUAL"] = "MEAN_STD"
            own = {"mean": np.reshape(encoder.mean, (3, 1, 1)), "std": np.reshape(encoder.deviation, (3, 1, 1))}
            stored |= {f"{IMAGES}{camera}": own for camera in cameras}
    return modes, {key: {name: np.asarray(v, np.float32) for name, v in own.items()} for key, own in stored.items()}


def _constants_kept(transform: Normalise, key: str) -> dict[str, np.ndarray]:
    """Return the statistics of `key` with which LeRobot makes of what never changes the same as kinema."""
    first, second = MODES[transform.modes[key]][:2]
    values = {name: np.array(transform.statistics[key][name]) for name in (first, second)}  # type: ignore[index]
    still = transform.constant(key)
    if transform.modes[key] == "mean_std":
        values[second] = np.where(still, 0.0 if key == ACTION else 1.0, values[second])
    else:
        middle, half = (values[first] + values[second]) / 2, 0.0 if key == ACTION else 1.0
        values = {
            first: np.where(still, middle - half, values[first]),
            second: np.where(still, middle + half, values[second]),
        }
    return values


def _mode(found: Directory, key: str) -> str | None:
    name = found.modes.get(found.types[key], "IDENTITY")
    if name == "IDENTITY":
        return None
    if name not in NAMES:
        raise unknown(f"normalisation of {key!r}", name, (*NAMES, "IDENTITY"))
    return NAMES[name]


def _values(found: Directory, key: str, names: tuple[str, ...]) -> Mapping[str, np.ndarray]:
    """Return statistics of `key`, one number a component."""
    have = found.statistics.get(key, {})
    made = {}
    for name in names:
        if name not in have:
            raise CheckpointError(
                f"{found.path} is to scale {key!r} by its {name}, but does not say it; "
                f"it has: {', '.join(have) or 'none'}\n"
                "a base to train on has no statistics, a trained policy has"
            )
        value = have[name].reshape(-1)
        if value.size != found.inputs[key][0] or not np.isfinite(value).all():
            raise CheckpointError(
                f"{found.path}: the {name} of {key!r} is {value}, expected {found.inputs[key][0]} numbers"
            )
        made[name] = value
    return made


def _colours(values: np.ndarray) -> Colours:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
