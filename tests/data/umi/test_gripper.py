"""Widths by hand."""

from __future__ import annotations

import numpy as np
import pytest

from kinema.core.errors import DataError, KinemaError
from kinema.data.umi import gripper
from kinema.data.umi.gripper import GripperRange

SPAN = GripperRange(closed_tag_m=0.05, open_tag_m=0.13, closed_m=0.0, open_m=0.08)


def test_distances_to_widths() -> None:
    distance = np.array([0.05, 0.09, 0.13, 0.134, 0.048, 0.2, 0.01, np.nan])
    expected = [0, 0.04, 0.08, 0.08, 0, np.nan, np.nan, np.nan]
    np.testing.assert_allclose(gripper.widths(distance, SPAN), expected, atol=1e-12)


def test_calibration_finds_the_ends_and_no_wrong_detection() -> None:
    sweep = np.concatenate([np.full(20, 0.05), np.linspace(0.05, 0.13, 100), np.full(20, 0.13), [0.3, np.nan, 0.0]])
    found = gripper.calibrate(sweep, closed_m=0.0, open_m=0.08)
    assert found.closed_tag_m == pytest.approx(0.05, abs=1e-4)
    assert found.open_tag_m == pytest.approx(0.13, abs=1e-4)
    with pytest.raises(DataError, match=r"move by 0\.0 mm only"):
        gripper.calibrate(np.full(50, 0.1), closed_m=0.0, open_m=0.08)
    with pytest.raises(DataError, match="seen in 3 of 50 frames"):
        gripper.calibrate(np.array([0.1] * 3 + [np.nan] * 47), closed_m=0.0, open_m=0.08)
    with pytest.raises(KinemaError, match="closed must be below open"):
        GripperRange(closed_tag_m=0.2, open_tag_m=0.1)


def test_one_wrong_detection_is_a_spike_and_a_fast_grasp_is_not() -> None:
    width = np.full(20, 0.04)
    width[7] = 0.07
    np.testing.assert_array_equal(np.flatnonzero(gripper.spikes(width, 0.01)), [7])
    grasp = np.linspace(0.08, 0.0, 12)  # 0.44 m/s at 60 Hz
    assert not gripper.spikes(grasp, 0.015).any()
    assert not gripper.spikes(np.full(20, np.nan), 0.01).any()


def test_gaps_are_bridged_up_to_the_limit() -> None:
    time_s = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    width = np.array([0.0, 0.01, np.nan, 0.03, np.nan, np.nan, 0.06])
    at_s = np.array([0.05, 0.2, 0.3, 0.45, 0.6])
    np.testing.assert_allclose(
        gripper.resample(time_s, width, at_s, max_gap_s=0.25), [0.005, 0.02, 0.03, np.nan, 0.06], atol=1e-12
    )
    assert np.isnan(gripper.resample(time_s, np.full(7, np.nan), at_s, max_gap_s=9.0)).all()
