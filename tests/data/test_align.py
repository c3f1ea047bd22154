"""Laws of the alignment: the newest sample at or before each row, never one from the future, never mixed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinema.core.errors import DataError
from kinema.data.align import align, at_or_before, row_clock

MS = 1_000_000


def at(*milliseconds: int) -> np.ndarray:
    return np.array(milliseconds, np.int64) * MS


def test_rows_by_hand():
    camera, joints = at(0, 33, 67, 100), at(-5, 5, 15, 25, 35, 45, 55, 65, 75, 85, 95, 105)
    rows = align({"camera": camera, "joints": joints}, rate_hz=20.0, max_age_s=0.012)
    assert rows.time_ns.tolist() == at(0, 50, 100).tolist()
    assert rows.index["camera"].tolist() == [0, 1, 3] and rows.index["joints"].tolist() == [0, 5, 10]
    assert rows.fresh["camera"].tolist() == [True, False, True]  # 50 ms shows the image of 33 ms
    assert rows.fresh["joints"].tolist() == [True, True, True]


def test_a_sample_at_the_row_itself_is_taken_and_one_a_nanosecond_later_is_not():
    assert at_or_before(np.array([10, 20], np.int64), np.array([19, 20, 21], np.int64)).tolist() == [0, 1, 1]


times = st.lists(st.integers(0, 10_000), min_size=1, max_size=60).map(lambda x: np.array(sorted(x), np.int64) * MS)


@settings(max_examples=200, deadline=None)
@given(first=times, second=times, rate=st.sampled_from([1.0, 10.0, 29.97, 50.0]), age=st.sampled_from([0.01, 0.1, 5.0]))
def test_laws(first, second, rate, age):
    streams = {"first": first, "second": second}
    if max(first[0], second[0]) > min(first[-1], second[-1]):
        with pytest.raises(DataError, match="are their times of one clock"):
            align(streams, rate_hz=rate, max_age_s=age)
        return
    rows = align(streams, rate_hz=rate, max_age_s=age)
    assert rows.time_ns[0] == max(first[0], second[0]) and rows.time_ns[-1] <= min(first[-1], second[-1])
    for name, captured in streams.items():
        for row, index, fresh in zip(rows.time_ns, rows.index[name], rows.fresh[name], strict=True):
            assert captured[index] <= row  # never from the future
            assert index + 1 == len(captured) or captured[index + 1] > row  # none newer existed
            assert fresh == (row - captured[index] <= round(age * 1e9))


@settings(max_examples=50, deadline=None)
@given(offset=st.integers(0, 2**60), captured=times)
def test_only_differences_of_time_matter(offset, captured):
    here = align({"x": captured}, rate_hz=30.0, max_age_s=0.1)
    there = align({"x": captured + offset}, rate_hz=30.0, max_age_s=0.1)
    np.testing.assert_array_equal(here.index["x"], there.index["x"])
    np.testing.assert_array_equal(here.time_ns + offset, there.time_ns)


def test_an_aligned_stream_is_itself():
    captured = 7 + np.rint(np.arange(1000) * (1e9 / 30)).astype(np.int64)
    rows = align({"x": captured}, rate_hz=30.0, max_age_s=0.001)
    np.testing.assert_array_equal(rows.time_ns, captured)
    np.testing.assert_array_equal(rows.index["x"], np.arange(1000))


def test_a_row_clock_does_not_drift():
    rows = row_clock({"x": np.array([0, 3_600_000_000_000], np.int64)}, 29.97)
    assert abs(int(rows[-1]) - (len(rows) - 1) / 29.97 * 1e9) <= 1 and len(rows) == 107893


@pytest.mark.parametrize(
    ("captured", "message"),
    [
        (np.array([3, 2], np.int64), "stream 'x': time goes back after sample 0: 3, then 2 ns"),
        (np.array([], np.int64), r"times are int64 \(0,\)"),
        (np.array([0.5]), "times are float64"),
        (np.array([0, 2**62], np.int64), "are the times in nanoseconds"),
    ],
)
def test_streams_that_cannot_be_aligned(captured, message):
    with pytest.raises(DataError, match=message):
        align({"x": captured}, rate_hz=10.0, max_age_s=0.1)


def test_a_row_before_the_first_sample_and_senseless_rates():
    with pytest.raises(DataError, match="row 0 at 5 ns is before the first sample at 6 ns"):
        at_or_before(np.array([6], np.int64), np.array([5], np.int64))
    with pytest.raises(DataError, match="must be above 0"):
        align({"x": at(1)}, rate_hz=0.0, max_age_s=0.1)
    with pytest.raises(DataError, match="no stream"):
        align({}, rate_hz=1.0, max_age_s=0.1)
