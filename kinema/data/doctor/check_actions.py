"""Checks of actions against their bounds and against what the robot did."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from kinema.core.spec import ActionSpec
from kinema.data.doctor.base import Check, Place
from kinema.data.doctor.check_episodes import tasks_of
from kinema.data.doctor.check_motion import components, is_gripper, numbers
from kinema.data.doctor.survey import Survey

_OUTSIDE, _STATE_OUTSIDE, _SATURATED, _OTHERS = 0.001, 0.1, 0.6, 0.3
_PREFIX = re.compile(r"^(d|delta_|target_|goal_|cmd_|action_)(?=.)")


def _action(survey: Survey) -> ActionSpec | None:
    spec = survey.spec
    if spec is None or "action" not in survey.features or survey.features["action"].width != spec.action.width:
        return None
    return spec.action


def bounds(survey: Survey) -> Iterator[Place]:
    """Actions outside the bounds of the spec."""
    action = _action(survey)
    if action is None:
        return
    low, high = np.array(action.low), np.array(action.high)
    margin = _OUTSIDE * np.where(np.isfinite(high - low), high - low, 0) + 1e-6
    for index, values in numbers(survey, "action", list(survey.episodes)).items():
        outside = (values < low - margin) | (values > high + margin)
        for place in np.flatnonzero(outside.any(axis=0)):
            rows = np.flatnonzero(outside[:, place])
            detail = f"{action.components[place]}: {len(rows)} of {len(values)} rows, {values[rows[0], place]:.4g} in "
            yield Place(detail=f"{detail}row {rows[0]}, bounds {low[place]:g} to {high[place]:g}", episode=index)


def saturated(survey: Survey) -> Iterator[Place]:
    """Episodes in which a component sits at its bound for most of the time, as it does not elsewhere."""
    action = _action(survey)
    if action is None:
        return
    low, high = np.array(action.low), np.array(action.high)
    margin = 1e-3 * (high - low)
    for group in tasks_of(survey):
        found = numbers(survey, "action", group)
        shares = {i: ((v <= low + margin) | (v >= high - margin)).mean(axis=0) for i, v in found.items()}
        usual = np.median(list(shares.values()), axis=0) if shares else np.zeros(0)
        for index, share in shares.items():
            for place in np.flatnonzero((share > _SATURATED) & (usual < _OTHERS)):
                # Two levels are how a gripper is commanded.
                if not is_gripper(action.components[place]) and len(np.unique(found[index][:, place])) > 2:
                    detail = f"{action.components[place]}: {100 * share[place]:.0f} % of the rows are at a bound"
                    yield Place(detail=f"{detail}, usually {100 * usual[place]:.0f} %", episode=index)


def pairs(survey: Survey) -> list[tuple[str, int, int]]:
    """Return (vector, its component, component of the action) of what a command and an observation both name."""
    if "action" not in survey.features:
        return []
    wanted = {_PREFIX.sub("", name.lower()): place for place, name in enumerate(components(survey, "action"))}
    found = []
    for vector in survey.vectors:
        for place, name in enumerate(components(survey, vector)):
            if vector != "action" and name.lower() in wanted and not name.startswith("["):
                found.append((vector, place, wanted[name.lower()]))
    return found


def kind_of(survey: Survey) -> str:
    """Return whether the action commands a "position" or a "velocity" (a delta is one); empty when nobody says."""
    kind = survey.spec.action.kind.lower() if survey.spec else ""
    return "velocity" if re.search(r"delta|velocit|relative", kind) else "position" if "position" in kind else ""


def state_limits(survey: Survey) -> Iterator[Place]:
    """States far outside the range in which positions may be commanded."""
    action = _action(survey)
    if action is None or kind_of(survey) != "position":
        return
    low, high = np.array(action.low), np.array(action.high)
    for vector, place, commanded in pairs(survey):
        margin = _STATE_OUTSIDE * (high[commanded] - low[commanded])
        for index, values in numbers(survey, vector, list(survey.episodes)).items():
            column = values[:, place]
            outside = (column < low[commanded] - margin) | (column > high[commanded] + margin)
            if outside.any():
                row = int(np.argmax(outside))
                detail = f"{components(survey, vector)[place]} is {column[row]:.4g} in row {row}, commands reach from "
                yield Place(detail=f"{detail}{low[commanded]:g} to {high[commanded]:g}", episode=index)


_LOOK = "look at it (`kinema data view`), then `kinema data edit delete` it"
CHECKS = (
    Check(
        id="action-bounds",
        severity="error",
        meaning="actions lie outside the bounds that meta/kinema.json says: the robot cannot have run them",
        fix="correct the bounds in meta/kinema.json, or delete the episode with `kinema data edit delete`",
        run=bounds,
        needs=("info", "spec"),
    ),
    Check(
        id="action-saturated",
        severity="warning",
        meaning="an action sits at its bound for most of an episode: the command was clipped",
        fix=_LOOK,
        run=saturated,
        needs=("info", "spec"),
    ),
    Check(
        id="state-limits",
        severity="warning",
        meaning="the robot is observed far outside of where it can be commanded to",
        fix=_LOOK,
        run=state_limits,
        needs=("info", "spec"),
    ),
)
