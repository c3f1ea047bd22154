"""A known delay is found again."""

from __future__ import annotations

import numpy as np
import pytest

from kinema.core.errors import DataError
from kinema.data.umi.latency import estimate_delay
from kinema.data.umi.synthetic import Motion


def speed(time_s: np.ndarray, seed: int) -> np.ndarray:
    """The height of the hand: what a camera and a tracker both see."""
    return Motion(seed=seed).pose(time_s)[:, 2, 3]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("delay_s", [-0.0731, 0.0, 0.0042, 0.1337])
def test_a_delay_is_recovered_within_half_a_sample(seed: int, delay_s: float) -> None:
    rng = np.random.default_rng(seed)
    camera_s, pose_s = np.arange(0, 12, 1 / 60), np.arange(0, 12, 1 / 200)
    first = speed(pose_s, seed) + rng.normal(scale=1e-3, size=len(pose_s))
    second = 1e3 * speed(camera_s, seed) + rng.normal(scale=1.0, size=len(camera_s)) + 40  # other units and zero
    second[100:120] = np.nan
    found = estimate_delay(pose_s, first, camera_s + delay_s, second)
    assert abs(found.seconds - delay_s) <= 0.5 / 60
    assert found.correlation > 0.95


def test_streams_that_say_nothing() -> None:
    time_s = np.arange(0, 10, 0.01)
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match=r"no delay within ±0\.5 s explains the streams"):
        estimate_delay(time_s, rng.normal(size=1000), time_s, rng.normal(size=1000))
    with pytest.raises(DataError, match="does not change"):
        estimate_delay(time_s, np.ones(1000), time_s, rng.normal(size=1000))
    with pytest.raises(DataError, match=r"share 1\.00 s, expected at least 2\.00 s"):
        estimate_delay(time_s, time_s, time_s + 8.99, time_s)
    with pytest.raises(DataError, match=r"values \(3,\), expected \(N,\) both"):
        estimate_delay(time_s, time_s[:3], time_s, time_s)
    with pytest.raises(DataError, match="a stream of 0 values"):
        estimate_delay(time_s, np.full(1000, np.nan), time_s, time_s)
