"""Planted faults are found and named, and a good demonstration is kept without a word."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kinema.data.umi.episode import Demonstration
from kinema.data.umi.quality import Finding, make
from kinema.data.umi.rig import Rig
from kinema.data.umi.synthetic import Motion, demonstrate


@pytest.fixture
def good(rig: Rig) -> Demonstration:
    return demonstrate(Motion(), latency=rig.latency, image_px=rig.image_px, duration_s=5.0)


def lost(good: Demonstration, rows: slice) -> Demonstration:
    tracked = good.trajectory.tracked.copy()
    tracked[rows] = False
    return replace(good, trajectory=replace(good.trajectory, tracked=tracked))


def moved(good: Demonstration, rows: slice, metres: float) -> Demonstration:
    path = good.trajectory.T_world_camera.copy()
    path[rows, 0, 3] += metres
    return replace(good, trajectory=replace(good.trajectory, T_world_camera=path))


def widths(good: Demonstration, rows: slice, value: float) -> Demonstration:
    width = good.width_m.copy()
    width[rows] = value
    return replace(good, width_m=width)


def one(demonstration: Demonstration, rig: Rig) -> tuple[Finding, bool]:
    episode, findings = make(demonstration, rig)
    assert len(findings) == 1
    return findings[0], episode is not None


def test_a_good_one_is_kept_without_a_word(good: Demonstration, rig: Rig) -> None:
    episode, findings = make(good, rig)
    assert episode is not None and findings == ()


@pytest.mark.parametrize(
    ("kind", "fault", "kept", "value"),
    [
        ("tracking lost", lambda d: lost(d, slice(300, 320)), True, 0.105),
        ("tracking lost", lambda d: lost(d, slice(300, 360)), False, 0.305),
        ("jump of the trajectory", lambda d: moved(d, slice(500, None), 0.06), False, 0.06),
        ("width not seen", lambda d: widths(d, slice(60, 66), np.nan), True, 7 / 60),
        ("width not seen", lambda d: widths(d, slice(60, 90), np.nan), False, 31 / 60),
        ("no picture", lambda d: cut(d, slice(60, 66)), True, 7 / 60),
        ("no picture", lambda d: cut(d, slice(60, 90)), False, 31 / 60),
    ],
)
def test_planted_faults(kind: str, fault: object, kept: bool, value: float, good: Demonstration, rig: Rig) -> None:
    finding, used = one(fault(good), rig)
    assert (finding.kind, finding.refuse, used) == (kind, not kept, kept)
    assert finding.value == pytest.approx(value, abs=0.004)


def cut(good: Demonstration, rows: slice) -> Demonstration:
    kept = np.ones(len(good.images), bool)
    kept[rows] = False
    return replace(good, images=good.images[kept], image_time_s=good.image_time_s[kept])


def test_a_jump_below_5_cm_is_caught_as_speed(good: Demonstration, rig: Rig) -> None:
    quick = replace(rig, limits=replace(rig.limits, max_speed_m_s=0.8))
    finding, used = one(moved(good, slice(500, None), 0.045), quick)
    assert (finding.kind, used) == ("speed", False)
    assert str(finding).startswith("speed at 2.4") and str(finding).endswith("m/s, above 0.8")


def test_one_wrong_width_is_noted_and_many_refused(good: Demonstration, rig: Rig) -> None:
    calm = replace(good, width_m=np.full(len(good.width_m), 0.04))
    episode, findings = make(widths(calm, slice(80, 81), 0.07), rig)
    assert [finding.kind for finding in findings] == ["width not seen", "spikes of the width, first"]
    assert findings[1].value == pytest.approx(100 / 300, rel=0.01)
    assert episode is not None and np.ptp(episode.frames["vector.gripper"]) == 0.0
    episode, findings = make(widths(calm, slice(0, None, 10), 0.07), rig)
    assert episode is None and [finding.refuse for finding in findings] == [False, True]


def test_a_short_one_is_refused(rig: Rig) -> None:
    short = demonstrate(Motion(), latency=rig.latency, image_px=rig.image_px, duration_s=0.8)
    finding, used = one(short, rig)
    assert (finding.kind, used) == ("all streams together", False)
    assert str(finding) == "all streams together at 0.00 s: 0.783 s, within 1"
