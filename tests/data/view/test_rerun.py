"""Recordings for the Rerun viewer hold what the dataset holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from kinema.core.errors import KinemaError
from kinema.data.lerobot.reader import Dataset

rerun = pytest.importorskip("rerun", reason="rerun-sdk is optional")


def test_recording_is_written(dataset: Dataset, tmp_path: Path) -> None:
    from kinema.data.view.rerun import write_rerun

    write_rerun(dataset, (1, 3), tmp_path / "a.rrd")
    content = (tmp_path / "a.rrd").read_bytes()
    assert content[:4] == b"RRF2" and len(content) > 5000
    for name in (b"episode_1/proprioception", b"episode_3/image/wrist", b"episode_3/action"):
        assert name in content
    assert b"episode_0/action" not in content
    with pytest.raises(KinemaError, match=r"expected a name that ends in \.rrd"):
        write_rerun(dataset, (1,), tmp_path / "a.mp4")
