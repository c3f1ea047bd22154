"""The Fork separates what averages, what keeps one mode and what keeps both."""

from __future__ import annotations

import numpy as np
import pytest

from kinema.core.errors import KinemaError
from kinema.sim.fork import AMPLITUDE, GOAL, RADIUS, START, Fork, Modes, clearance


def drawn(fork: Fork, count: int = 4000) -> np.ndarray:
    return fork.chunks(count, np.random.default_rng(0))


def test_demonstrations_are_valid_chunks_of_both_modes() -> None:
    for fork in (Fork(), Fork(majority=0.6), Fork(correlated=True)):
        chunks = drawn(fork)
        assert chunks.shape == (4000, 16, 2) and chunks.dtype == np.float32 and np.abs(chunks).max() <= 1.0
        modes = fork.judge(chunks)
        assert modes.invalid == pytest.approx(0.0, abs=1e-12)
        assert modes.left == pytest.approx(fork.majority, abs=0.025)  # three standard errors
        assert modes.left + modes.right + modes.invalid == pytest.approx(1.0)
    assert np.array_equal(drawn(Fork()), drawn(Fork()))


def test_the_mean_of_the_demonstrations_hits_the_obstacle() -> None:
    for majority in (0.5, 0.6):
        mean = drawn(Fork(majority=majority)).mean(0)
        assert mean[7, 1] == pytest.approx((2 * majority - 1) * AMPLITUDE, abs=0.04)
        assert Fork().judge(mean[None]) == Modes(0.0, 0.0, 1.0)


def test_the_median_is_the_majority_mode() -> None:
    median = np.median(drawn(Fork(majority=0.6)), axis=0)
    assert Fork().judge(median[None]) == Modes(1.0, 0.0, 0.0)
    assert np.abs(median - Fork().centres[0]).max() < 0.06
    median = np.median(drawn(Fork(majority=0.4)), axis=0)
    assert Fork().judge(median[None]) == Modes(0.0, 1.0, 0.0)


def test_modes_mirror_each_other_and_end_at_the_goal() -> None:
    left, right = Fork().centres
    assert np.array_equal(left * [1, -1], right)
    assert np.allclose(left[-1], GOAL, atol=1e-6) and left[7, 1] == pytest.approx(AMPLITUDE)
    mirrored = Fork().judge(drawn(Fork(majority=0.8)) * np.float32([1, -1]))
    modes = Fork().judge(drawn(Fork(majority=0.8)))
    assert (mirrored.left, mirrored.right) == (modes.right, modes.left)
    assert modes.cover == modes.right


def test_the_way_between_waypoints_counts() -> None:
    """Four waypoints beside the obstacle whose way leads through it."""
    fork = Fork(horizon=4)
    jump = np.array([[-0.4, 0.5], [-0.1, 0.5], [0.1, -0.5], GOAL], np.float32)[None]
    assert np.linalg.norm(jump[0], axis=-1).min() > RADIUS
    assert clearance(jump)[0] == pytest.approx(0.0, abs=1e-6) and fork.judge(jump).invalid == 1.0
    # From the start straight to (0.9, 0.9): the line passes the origin at 0.81 / |(1.8, 0.9)| = 0.4025.
    line = np.broadcast_to(np.array([0.9, 0.9], np.float32), (1, 4, 2))
    assert clearance(line)[0] == pytest.approx(0.81 / np.hypot(1.8, 0.9), abs=1e-6)
    assert fork.judge(line).invalid == 1.0, "it does not arrive at the goal"


def test_standing_still_and_not_a_number_are_invalid() -> None:
    still = np.broadcast_to(START, (3, 16, 2))
    assert clearance(still) == pytest.approx(0.9) and Fork().judge(still).invalid == 1.0
    assert Fork().judge(np.full((2, 16, 2), np.nan, np.float32)).invalid == 1.0


def test_independent_components_are_off_mode_half_of_the_time() -> None:
    fork = Fork(correlated=True)
    chunks = drawn(fork)
    assert np.array_equal(np.sign(chunks[..., 0]), np.sign(chunks[..., 1]))
    shuffled = chunks.copy()
    shuffled[..., 1] = np.random.default_rng(1).permutation(shuffled[..., 1])
    modes = fork.judge(shuffled)
    assert modes.invalid == pytest.approx(0.5, abs=0.025) and modes.cover == pytest.approx(0.25, abs=0.025)
    assert fork.judge(chunks.mean(0)[None]).invalid == 1.0


def test_wrong_input_is_named() -> None:
    with pytest.raises(KinemaError, match=r"majority 1.5 must lie in \[0, 1\]"):
        Fork(majority=1.5)
    with pytest.raises(KinemaError, match="horizon 0"):
        Fork(horizon=0)
    with pytest.raises(KinemaError, match=r"shape \(2, 8, 2\), expected \(N, 16, 2\)"):
        Fork().judge(np.zeros((2, 8, 2), np.float32))
