"""Every known corruption is found, once each; healthy datasets are left alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import corruptions
import pytest
from clean_datasets import kind_of

from kinema.core.rng import generator
from kinema.data.doctor.diagnose import BY_ID, CHECKS, diagnose


@pytest.mark.parametrize("name", corruptions.ALL)
def test_a_corruption_is_found(name: str, clean: dict[int, Path], tmp_path: Path) -> None:
    first = sum(name.encode()) % len(clean)
    for seed in [*range(first, len(clean)), *range(first)]:
        shutil.copytree(clean[seed], tmp_path / str(seed), ignore=shutil.ignore_patterns(".cache"))
        expected = corruptions.corrupt(name, tmp_path / str(seed), generator("corruption", name, seed))
        if expected is not None:
            break
    assert expected is not None, "none of the clean datasets can suffer it"
    report = diagnose(tmp_path / str(seed))
    assert expected.met(report), (expected, [(f.check, f.episode, f.detail) for f in report.findings])
    assert BY_ID[expected.check].severity in ("error", "warning")


@pytest.mark.parametrize("seed", range(4))
def test_a_healthy_dataset_has_no_findings(seed: int, clean: dict[int, Path]) -> None:
    report = diagnose(clean[seed])
    assert report.findings == () and report.healthy
    assert report.verdict == f"No problem found in 6 episodes by {len(report.checked)} checks."
    assert report.frames == sum(kind_of(seed).lengths)
    skipped = {name for name, _ in report.skipped}
    assert skipped == (set() if kind_of(seed).capture else {c.id for c in CHECKS if "capture" in c.needs})


def test_every_check_is_told_in_one_line_and_nearly_all_have_a_corruption(clean: dict[int, Path]) -> None:
    assert len(BY_ID) == len(CHECKS) >= 60
    for check in CHECKS:
        assert "\n" not in check.meaning + check.fix and len(check.meaning) < 130 and len(check.fix) < 130, check.id
    assert len(corruptions.STRUCTURAL) >= 50 and len(corruptions.CONTENT) >= 30
