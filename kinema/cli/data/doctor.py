"""Check a dataset for everything that is known to go wrong, and repair what is certain."""

from __future__ import annotations

import json
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from kinema.cli.progress import progress
from kinema.core.errors import KinemaError

if TYPE_CHECKING:
    from kinema.data.doctor.base import Report
    from kinema.data.doctor.survey import Survey

_MOST = 8
"""Findings of one check that are printed before the rest is counted."""


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Check a LeRobotDataset v3.0 directory; exit code 0: nothing found, 1: findings, 2: not a dataset."""

    directory: tyro.conf.Positional[Path]
    """a dataset recorded by kinema, or any LeRobotDataset v3.0"""
    quick: bool = False
    """decode no video: tables, statistics, video headers and packet times only"""
    json: bool = False
    """print the report as JSON"""
    html: Path | None = None
    """write the report as a page with pictures of the episodes to this file"""
    fix: bool = False
    """repair what the rest of the dataset says for certain, deleting nothing; then check again"""
    exclude: Path | None = None
    """write the list of episodes with findings to this file, for training to leave out"""

    def run(self) -> int:
        """Print what is wrong; returns 1 when something is, after repairs if these are asked for."""
        survey, report = self._examine()
        done: list[str] = []
        if self.fix and not report.healthy:
            from kinema.data.doctor.fixes import fix

            done = fix(survey, report)
            survey, report = self._examine()
        if self.html is not None:
            from kinema.data.doctor.page import write_page

            write_page(self.html, survey, report, command=self._command())
        if self.exclude is not None:
            _write_exclusion(self.exclude, self.directory, report)
        data = {**report.to_data(), "fixed": done}
        sys.stdout.write(json.dumps(data) + "\n" if self.json else self._text(report, done))
        return 0 if report.healthy else 1

    def _examine(self) -> tuple[Survey, Report]:
        from kinema.data.doctor.diagnose import examine
        from kinema.data.doctor.read import survey as read_survey

        began = time.monotonic()
        with progress("videos", 1) as tell:
            survey = read_survey(
                self.directory, deep=not self.quick, progress=lambda done, total: tell(done // total, f"{done}/{total}")
            )
        return survey, examine(survey, began=began)

    def _command(self) -> str:
        return shlex.join(["kinema", "data", "doctor", str(self.directory), *(["--quick"] if self.quick else [])])

    def _text(self, report: Report, done: list[str]) -> str:
        from kinema.data.doctor.diagnose import BY_ID

        lines = [f"fixed: {line}" for line in done]
        for name, findings in report.by_check():
            check = BY_ID[name]
            lines += ["", f"{check.severity} {name}: {check.meaning}"]
            for finding in findings[:_MOST]:
                where = "" if finding.episode is None else f"episode {finding.episode}: "
                lines.append(f"  {where}{finding.detail}" + (f" ({finding.file})" if finding.file else ""))
            lines += [f"  ... and {len(findings) - _MOST} more"] if len(findings) > _MOST else []
            lines.append(f"  fix: {check.fix}")
        reasons = sorted({reason for _, reason in report.skipped})
        lines += [""] if lines else []
        lines += [f"skipped {sum(why == reason for _, why in report.skipped)} checks: {reason}" for reason in reasons]
        speed = report.megabytes / max(report.seconds, 1e-9)
        lines.append(f"{report.megabytes:.1f} MB in {report.seconds:.1f} s, {speed:.1f} MB/s")
        lines.append(f"{self.directory}: {report.verdict}")
        if report.bad_episodes:
            listed = ",".join(str(index) for index in report.bad_episodes)
            lines.append(f"to remove these episodes: kinema data edit delete {self.directory} --episodes {listed}")
        return "\n".join(lines) + "\n"


def _write_exclusion(path: Path, directory: Path, report: Report) -> None:
    from kinema.core.files import write_text
    from kinema.data.lerobot.reader import open_dataset

    reasons: dict[str, list[str]] = {}
    for finding in report.findings:
        if finding.episode is not None:
            reasons.setdefault(str(finding.episode), []).append(f"{finding.check}: {finding.detail}")
    try:
        content_hash = open_dataset(directory).content_hash
    except KinemaError:
        # A dataset that cannot be opened has no hash of what training would read.
        content_hash = ""
    entry = {"dataset": content_hash, "episodes": list(report.bad_episodes), "reasons": reasons}
    write_text(path, json.dumps(entry, indent=2) + "\n")
