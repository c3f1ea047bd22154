"""Checks of actions against what the robot did after them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kinema.data.doctor.base import Check, Place
from kinema.data.doctor.check_actions import kind_of, pairs
from kinema.data.doctor.check_motion import components, is_gripper
from kinema.data.doctor.survey import EpisodeRow, Survey

_LAG_S, _CLEAR = 0.5, 0.6


def lag(survey: Survey) -> Iterator[Place]:
    """Episodes in which the state answers the action earlier or much later than in the others."""
    if not kind_of(survey):
        return
    found = {e.index: scores for e in survey.episodes if (scores := _scores(survey, e)) is not None}
    usual = round(float(np.median([best_shift(scores) for scores in found.values()]))) if found else 0
    for index, scores in found.items():
        shift, widest = best_shift(scores), len(scores) // 2
        clear = scores.max() - (scores[widest + usual] if abs(usual) <= widest else 0.0) > 0.1
        if shift < 0 and usual < 0:
            yield Place(detail=f"the state moves {-shift} rows before the action that moves it", episode=index)
        elif abs(shift - usual) >= 2 and clear:
            yield Place(detail=f"the state answers after {shift} rows, usually after {usual}", episode=index)


def _scores(survey: Survey, episode: EpisodeRow) -> np.ndarray | None:
    """Return how well the observed components follow those of the action by shift; None when they do not."""
    action = survey.numbers(episode, "action")
    names = components(survey, "action") if action is not None else ()
    matched = [(v, s, a) for v, s, a in pairs(survey) if action is not None and not is_gripper(names[a])]
    for vector in sorted({vector for vector, _, _ in matched}):
        state = survey.numbers(episode, vector)
        if action is None or state is None or len(action) != len(state) or len(action) < 12:
            continue
        answer = state[:, [s for v, s, _ in matched if v == vector]]
        if kind_of(survey) == "velocity":
            answer = np.diff(answer, axis=0, append=answer[-1:])
        widest = min(max(3, round(_LAG_S * survey.fps)), len(action) // 3)
        scores = shift_scores(action[:, [a for v, _, a in matched if v == vector]], answer, widest)
        if scores.max() >= _CLEAR:
            return scores
    return None


def best_shift(scores: np.ndarray) -> int:
    """Return the shift with the highest of `shift_scores`."""
    return int(np.argmax(scores)) - len(scores) // 2


def shift_scores(action: np.ndarray, state: np.ndarray, widest: int) -> np.ndarray:
    """Return how well the state (T, D) follows the action (T, D), by shift from -widest to widest rows.

    It is the correlation of their changes from row to row, averaged over components.
    """
    scores = []
    for shift in range(-widest, widest + 1):
        ahead = action[max(0, -shift) : len(action) - max(0, shift)]
        later = state[max(0, shift) : len(state) - max(0, -shift)]
        scores.append(_correlation(np.diff(ahead, axis=0), np.diff(later, axis=0)))
    return np.array(scores)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    size = np.sqrt((one**2).sum(axis=0) * (other**2).sum(axis=0))
    kept = size > 1e-12
    return float(((one * other).sum(axis=0)[kept] / size[kept]).mean()) if kept.any() else 0.0


def gripper_sign(survey: Survey) -> Iterator[Place]:
    """Episodes in which the gripper opens where it closes in the others."""
    matched = [(v, s, a) for v, s, a in _grippers(survey)]
    for vector, place, commanded in matched:
        signs: dict[int, float] = {}
        for episode in survey.episodes:
            action, state = survey.numbers(episode, "action"), survey.numbers(episode, vector)
            if action is None or state is None or len(action) != len(state) or len(action) < 6:
                continue
            ahead, later = action[:-2, commanded], state[2:, place]
            if np.ptp(ahead) > 1e-6 and np.ptp(later) > 1e-6:
                signs[episode.index] = float(np.corrcoef(ahead, later)[0, 1])
        clear = {index: np.sign(value) for index, value in signs.items() if abs(value) > 0.4}
        usual = np.sign(sum(clear.values()))
        for index, sign in clear.items():
            if sign == -usual and sum(clear.values()) * usual >= 1 and len(clear) > 2:
                detail = (
                    f"{components(survey, 'action')[commanded]} and {components(survey, vector)[place]} correlate by "
                )
                yield Place(detail=f"{detail}{signs[index]:+.2f}, of the other sign than elsewhere", episode=index)


def _grippers(survey: Survey) -> Iterator[tuple[str, int, int]]:
    if "action" not in survey.features:
        return
    commands = [place for place, name in enumerate(components(survey, "action")) if is_gripper(name)]
    for vector in survey.vectors:
        for place, name in enumerate(components(survey, vector)):
            if vector != "action" and is_gripper(name) and len(commands) == 1:
                yield vector, place, commands[0]


CHECKS = (
    Check(
        id="action-lag",
        severity="error",
        meaning="action and state are shifted against each other: the policy would learn the wrong moment",
        fix="shift the column, or delete the episode with `kinema data edit delete`",
        run=lag,
        needs=("info", "spec", "rate", "action"),
    ),
    Check(
        id="gripper-sign",
        severity="error",
        meaning="the gripper command has the other sign in an episode",
        fix="flip the column in this episode, or delete it with `kinema data edit delete`",
        run=gripper_sign,
    ),
)
