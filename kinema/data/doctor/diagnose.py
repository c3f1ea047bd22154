"""Runs all checks over a dataset directory."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from kinema.data.doctor import (
    check_actions,
    check_episodes,
    check_images,
    check_lag,
    check_meta,
    check_motion,
    check_rows,
    check_spans,
    check_stats,
    check_tables,
    check_timing,
    check_units,
    check_video,
)
from kinema.data.doctor.base import Check, Finding, Place, Report
from kinema.data.doctor.read import survey as read_survey
from kinema.data.doctor.survey import Progress, Survey
from kinema.data.lerobot.layout import CAPTURED

CHECKS: tuple[Check, ...] = (
    *check_meta.CHECKS,
    *check_rows.CHECKS,
    *check_tables.CHECKS,
    *check_video.CHECKS,
    *check_spans.CHECKS,
    *check_timing.CHECKS,
    *check_stats.CHECKS,
    *check_images.CHECKS,
    *check_episodes.CHECKS,
    *check_motion.CHECKS,
    *check_units.CHECKS,
    *check_actions.CHECKS,
    *check_lag.CHECKS,
    Check(
        id="could-not-check",
        severity="error",
        meaning="a check met content that it does not understand; what it looks for may be there or not",
        fix="repair the other findings first; what remains then is worth a bug report",
        run=lambda survey: (),
        needs=(),
    ),
)
BY_ID = {check.id: check for check in CHECKS}


def diagnose(root: Path, *, deep: bool = True, progress: Progress | None = None) -> Report:
    """Return what is wrong with the LeRobotDataset v3.0 at `root`; `deep` decodes every video frame.

    Whatever the files hold becomes findings; only a directory that is no dataset, or one of v2, is a DataError.
    """
    began = time.monotonic()
    return examine(read_survey(Path(root), deep=deep, progress=progress), began=began)


def examine(survey: Survey, *, began: float) -> Report:
    """Return the report of all checks over what was read since `began` (monotonic seconds)."""
    findings: list[Finding] = []
    checked, skipped = [], []
    have = _available(survey)
    for check in CHECKS:
        lacking = [have[need] for need in check.needs if have[need]]
        if lacking:
            skipped.append((check.id, lacking[0]))
            continue
        checked.append(check.id)
        findings += _run(check, survey)
    return Report(
        root=str(survey.root),
        episodes=len(survey.episodes),
        frames=sum(episode.length for episode in survey.episodes),
        cameras=survey.cameras,
        deep=survey.deep,
        findings=tuple(findings),
        checked=tuple(checked),
        skipped=tuple(skipped),
        megabytes=survey.megabytes,
        seconds=time.monotonic() - began,
    )


def _available(survey: Survey) -> dict[str, str]:
    """Return why each thing that checks need is not there; an empty text when it is."""
    times = any(name.startswith(CAPTURED) for name in survey.features)
    return {
        "info": "" if survey.info is not None else "meta/info.json cannot be read",
        "spec": "" if survey.spec is not None else "meta/kinema.json is missing or cannot be read",
        "frames": "no video is decoded with --quick" if not survey.deep else "" if survey.cameras else "no cameras",
        "capture": "" if times else "no capture times were recorded",
        "rate": "" if survey.fps else "meta/info.json gives no frame rate",
        "action": "" if "action" in survey.features else "meta/info.json describes no action",
    }


def _run(check: Check, survey: Survey) -> list[Finding]:
    def finding(place: Place, found: Check) -> Finding:
        return Finding(
            check=found.id, severity=found.severity, episode=place.episode, file=place.file, detail=place.detail
        )

    try:
        with np.errstate(all="ignore"):
            return [finding(place, check) for place in check.run(survey)]
    except Exception as error:  # noqa: BLE001 - damaged files hold anything: a check that fails must not hide the others
        detail = f"{check.id}: {type(error).__name__}: {error}"[:200]
        return [finding(Place(detail=detail), BY_ID["could-not-check"])]
