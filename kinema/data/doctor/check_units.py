"""Checks of whether values can be what the spec says they are."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from kinema.core.spec import ActionSpec, Vector
from kinema.data.doctor.base import Check, Place
from kinema.data.doctor.check_motion import numbers
from kinema.data.doctor.survey import Survey
from kinema.data.lerobot.layout import feature_key

_UNIT_LIMITS = {"rad": 13.0, "m": 20.0, "s": 1e5, "m/s": 50.0, "rad/s": 100.0}


def units(survey: Survey) -> Iterator[Place]:
    """Values that cannot be in the unit that the spec says."""
    if survey.spec is None:
        return
    parts: list[Vector | ActionSpec] = [survey.spec.action, *survey.spec.observation.vectors]
    for part in parts:
        name = feature_key(part.key if isinstance(part, Vector) else "action")
        if name not in survey.features or survey.features[name].width != len(part.units):
            continue
        found = numbers(survey, name, list(survey.episodes))
        if not found:
            continue
        for place, (label, unit) in enumerate(zip(part.components, part.units, strict=True)):
            problem = _implausible(unit, {index: values[:, place] for index, values in found.items()})
            for index, text in problem.items():
                yield Place(detail=f"{name} {label}: {text}", episode=index)


def _implausible(unit: str, columns: dict[int, np.ndarray]) -> dict[int | None, str]:
    """Return what is wrong by episode; by None when it is so in most episodes."""
    limit = _UNIT_LIMITS.get(unit)
    high = {index: float(np.quantile(np.abs(values), 0.9)) for index, values in columns.items()}
    if unit in ("deg", "degree", "degrees"):
        moving = [values for values in columns.values() if np.ptp(values) > 0.1]
        if len(moving) > 2 and max(float(np.abs(values).max()) for values in columns.values()) < 3.3:
            return {None: "never beyond 3.3 although in degrees: radians?"}
        return {}
    if limit is None:
        return {}
    bad = {index: value for index, value in high.items() if value > limit}
    guess = {"rad": ": degrees?", "m": ": millimetres?"}.get(unit, "")
    if len(bad) > 0.5 * len(high):
        return {None: f"values up to {max(bad.values()):.4g} {unit}{guess}"}
    return {index: f"values up to {value:.4g} {unit}{guess}" for index, value in bad.items()}


def rotation(survey: Survey) -> Iterator[Place]:
    """Quaternions that are not of length one."""
    if survey.spec is None:
        return
    for vector in survey.spec.observation.vectors:
        places = [place for place, name in enumerate(vector.components) if re.search(r"(^|_)q[wxyz]$", name)]
        if len(places) != 4 or feature_key(vector.key) not in survey.features:
            continue
        for index, values in numbers(survey, feature_key(vector.key), list(survey.episodes)).items():
            off = np.abs(np.linalg.norm(values[:, places], axis=1) - 1)
            if off.max() > 0.01:
                row = int(np.argmax(off))
                length = np.linalg.norm(values[row, places])
                yield Place(detail=f"{vector.name}: the quaternion of row {row} has length {length:.4g}", episode=index)


CHECKS = (
    Check(
        id="units",
        severity="error",
        meaning="values do not fit the unit that meta/kinema.json says",
        fix="convert the column, or correct the unit in meta/kinema.json",
        run=units,
        needs=("info", "spec"),
    ),
    Check(
        id="rotation",
        severity="error",
        meaning="a quaternion is not of length one",
        fix="normalise it, or correct the order of its components",
        run=rotation,
        needs=("info", "spec"),
    ),
)
