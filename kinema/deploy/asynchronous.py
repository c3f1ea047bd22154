"""When to ask for the next chunk while this one runs: bookkeeping of asynchronous execution, in whole steps.

One request is under way at a time. It is made when at most a share `threshold` (g) of a chunk of H actions is left,
and answered L steps later with the actions for the moment of the request on: the first L of them are late.
"""

from __future__ import annotations

import math

from kinema.core.errors import KinemaError


def latency_steps(latency_s: float, rate_hz: float) -> int:
    """Return how many control steps pass until an answer is there, rounded up: a step begun is a step waited."""
    if not (latency_s >= 0.0 and rate_hz > 0.0 and math.isfinite(latency_s * rate_hz)):
        raise KinemaError(f"latency {latency_s} s at {rate_hz} Hz: expected 0 or more, at a rate above 0")
    return math.ceil(round(latency_s * rate_hz, 9))


def minimum_threshold(steps: int, pred_horizon: int) -> float:
    """Return the smallest threshold L / H with which the robot never waits, for L = `steps` and H = `pred_horizon`.

    There is none unless 2 L <= H: a chunk is worth H - L steps when it comes, and the next comes L later at best.
    """
    if pred_horizon < 1:
        raise KinemaError(f"chunks of {pred_horizon} steps: expected at least 1")
    if not 0 <= 2 * steps <= pred_horizon:
        raise KinemaError(
            f"a latency of {steps} steps is too long for chunks of {pred_horizon}: with one request at a time "
            f"at most {pred_horizon // 2} steps can be bridged; expected shorter inference or longer chunks"
        )
    return steps / pred_horizon


def idle_steps(threshold: float, steps: int, pred_horizon: int, *, run: int = 200) -> int:
    """Return for how many of `run` steps after the first chunk came the robot has no action to run."""
    left, answer, idle = pred_horizon - steps, None, 0
    for now in range(run):
        if answer == now:
            left, answer = pred_horizon - steps, None
        if answer is None and left <= round(threshold * pred_horizon, 9):  # 1 / 49 * 49 is below 1
            answer = now + steps
        if answer == now:  # without latency the answer is there at once
            left, answer = pred_horizon, None
        idle += left == 0
        left = max(left - 1, 0)
    return idle
