"""What is wrong with a demonstration, and whether it can be used all the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kinema.actions import poses, rotations
from kinema.core.episode import Episode
from kinema.core.errors import DataError
from kinema.core.spec import ACTION
from kinema.data.umi import gripper
from kinema.data.umi.episode import Demonstration, assemble, on_one_clock
from kinema.data.umi.rig import HAND, Limits, Rig


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was measured at `at_s` on the demonstration's clock against its limit; `refuse`: beyond repair."""

    kind: str
    at_s: float
    value: float
    limit: float
    unit: str
    refuse: bool

    def __str__(self) -> str:
        relation = "above" if self.value > self.limit else "within"
        return f"{self.kind} at {self.at_s:.2f} s: {self.value:.3g} {self.unit}, {relation} {self.limit:g}"


def make(demonstration: Demonstration, rig: Rig) -> tuple[Episode | None, tuple[Finding, ...]]:
    """Return the episode, or None when it is refused, and everything that was found on the way."""
    findings = check(demonstration, rig)
    if refused(findings):
        return None, findings
    try:
        episode = assemble(demonstration, rig)
    except DataError as error:
        raise DataError(f"{demonstration.name}: {error}") from error
    findings += check_actions(episode, rig)
    return (None if refused(findings) else episode), findings


def refused(findings: Sequence[Finding]) -> bool:
    """Return whether any finding refuses the episode."""
    return any(finding.refuse for finding in findings)


def check(demonstration: Demonstration, rig: Rig) -> tuple[Finding, ...]:
    """Return the findings on the raw streams: duration, gaps of each, jumps of the trajectory, spikes of the width."""
    captured, limits = on_one_clock(demonstration, rig), rig.limits
    tracked = captured.trajectory.tracked
    seen = np.isfinite(captured.width_m)
    streams = {
        "no picture": captured.image_time_s,
        "tracking lost": captured.trajectory.time_s[tracked],
        "width not seen": captured.width_time_s[seen],
    }
    start = max((times[0] for times in streams.values() if len(times)), default=0.0)
    end = min((times[-1] if len(times) else start for times in streams.values()), default=start)
    findings: list[Finding] = []
    if end - start < limits.min_duration_s:
        findings.append(_finding("all streams together", start, end - start, limits.min_duration_s, "s", below=True))
    whole = (captured.image_time_s, captured.trajectory.time_s, captured.width_time_s)
    for (kind, times), every in zip(streams.items(), whole, strict=True):
        findings += _gaps(kind, times, every, limits)
    findings += _jumps(captured, limits)
    return (*findings, *_spikes(demonstration, limits))


def check_actions(episode: Episode, rig: Rig) -> tuple[Finding, ...]:
    """Return a finding for the fastest step that is beyond what a robot should be asked for."""
    hand = poses.from_vector(episode.frames[f"vector.{HAND}"])
    target = poses.from_vector(episode.frames[ACTION][:, :9])
    lead_s = 1 / rig.rate_hz + rig.latency.action_s
    speed = np.linalg.norm(target[:, :3, 3] - hand[:, :3, 3], axis=1) / lead_s
    turn = rotations.distance_rad(hand[:, :3, :3], target[:, :3, :3]) / lead_s
    time_s = episode.captured_ns[ACTION] / 1e9
    limits = rig.limits
    measured = (("speed", speed, limits.max_speed_m_s, "m/s"), ("turning", turn, limits.max_turn_rad_s, "rad/s"))
    return tuple(
        _finding(kind, time_s[int(np.argmax(values))], values.max(), limit, unit)
        for kind, values, limit, unit in measured
        if values.max() > limit
    )


def _gaps(kind: str, times: np.ndarray, every: np.ndarray, limits: Limits) -> list[Finding]:
    """Return the longest gap between the samples that are good, when it is more than the stream's own rhythm."""
    if len(times) < 2:
        return [_finding(kind, every[0] if len(every) else 0.0, float("inf"), limits.max_gap_s, "s")]
    steps = np.diff(times)
    longest = int(np.argmax(steps))
    if steps[longest] <= max(1.5 * np.median(np.diff(every)), 0.0):
        return []
    return [_finding(kind, times[longest], steps[longest], limits.max_gap_s, "s")]


def _jumps(captured: Demonstration, limits: Limits) -> list[Finding]:
    """Return the largest jump between neighbouring poses; over a short gap the hand may have moved on meanwhile."""
    tracked = captured.trajectory.tracked
    time_s, position = captured.trajectory.time_s[tracked], captured.trajectory.T_world_camera[tracked, :3, 3]
    if len(time_s) < 2:
        return []
    steps, lengths = np.diff(time_s), np.linalg.norm(np.diff(position, axis=0), axis=1)
    over_gap = steps > 1.5 * np.median(steps)
    allowed = np.where(over_gap, np.maximum(limits.max_jump_m, limits.max_speed_m_s * steps), limits.max_jump_m)
    worst = int(np.argmax(lengths / allowed))
    if lengths[worst] <= allowed[worst]:
        return []
    return [_finding("jump of the trajectory", time_s[worst], lengths[worst], float(allowed[worst]), "m")]


def _spikes(demonstration: Demonstration, limits: Limits) -> list[Finding]:
    """Return the share of widths that were taken for wrong detections; a few are interpolated over."""
    wrong = gripper.spikes(demonstration.width_m, limits.max_spike_m)
    if not wrong.any():
        return []
    at_s = demonstration.width_time_s[int(np.argmax(wrong))]
    return [_finding("spikes of the width, first", at_s, 100 * wrong.mean(), 100 * limits.max_spikes, "%")]


def _finding(kind: str, at_s: float, value: float, limit: float, unit: str, *, below: bool = False) -> Finding:
    bad = value < limit if below else value > limit
    return Finding(kind=kind, at_s=float(at_s), value=float(value), limit=limit, unit=unit, refuse=bool(bad))
