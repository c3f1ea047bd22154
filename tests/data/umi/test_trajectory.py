"""Trajectory files as SLAM systems write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kinema.actions import rotations
from kinema.core.errors import DataError
from kinema.data.umi.trajectory import Trajectory, read_orb_slam3, read_tum

HEADER = "frame_idx,timestamp,state,is_lost,is_keyframe,x,y,z,q_x,q_y,q_z,q_w\n"
CSV = (
    HEADER
    + "0,0.000000,2,false,true,0.1,0.2,0.3,0,0,0.70710678,0.70710678\n"
    + "1,0.016667,3,true,false,0,0,0,0,0,0,0\n"
    + "2,0.033333,2,false,false,0.4,0.5,0.6,1,0,0,0\n"
)


def written(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def test_orb_slam3(tmp_path: Path) -> None:
    read = read_orb_slam3(written(tmp_path / "camera_trajectory.csv", CSV))
    np.testing.assert_array_equal(read.tracked, [True, False, True])
    np.testing.assert_allclose(read.time_s, [0, 0.016667, 0.033333])
    np.testing.assert_allclose(read.T_world_camera[0, :3, 3], [0.1, 0.2, 0.3])
    np.testing.assert_allclose(rotations.log(read.T_world_camera[0, :3, :3]), [0, 0, np.pi / 2], atol=1e-8)
    np.testing.assert_allclose(read.T_world_camera[2, :3, :3], np.diag([1, -1, -1]), atol=1e-12)


def test_tum(tmp_path: Path) -> None:
    text = "# timestamp tx ty tz qx qy qz qw\n\n1.5 1 2 3 0 0 0.70710678 0.70710678\n1.6 1 2 4 0 0 0 1\n"
    read = read_tum(written(tmp_path / "trajectory.txt", text))
    assert read.tracked.all() and len(read) == 2
    np.testing.assert_allclose(read.T_world_camera[:, :3, 3], [[1, 2, 3], [1, 2, 4]])
    np.testing.assert_allclose(rotations.log(read.T_world_camera[0, :3, :3]), [0, 0, np.pi / 2], atol=1e-8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER, "holds no row"),
        (CSV.replace("is_lost", "lost"), "has no column 'is_lost'; it has: frame_idx, timestamp, state, lost"),
        (CSV.replace("3,true", "3,perhaps"), "line 3: is_lost is 'perhaps', expected true or false"),
        (CSV.replace("0.4", "far"), "line 4: expected 8 numbers"),
        (CSV.replace("0.033333", "0.016667"), r"time does not rise after 0\.016667 s"),
        (CSV.replace("0,0,0.70710678,0.70710678", "0,0,0,0"), "quaternion of length zero at index"),
    ],
)
def test_a_broken_csv_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_orb_slam3(written(tmp_path / "camera_trajectory.csv", text))


def test_a_broken_tum_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 2: expected 8 numbers .* got \['1', '2'\]"):
        read_tum(written(tmp_path / "t.txt", "# nothing\n1 2\n"))
    with pytest.raises(DataError, match="holds no pose"):
        read_tum(written(tmp_path / "t.txt", "# nothing\n"))
    with pytest.raises(DataError, match=r"cannot read .*none\.txt: No such file"):
        read_tum(tmp_path / "none.txt")


def test_parts_of_different_lengths() -> None:
    with pytest.raises(DataError, match=r"a trajectory of 2 times, poses \(3, 4, 4\)"):
        Trajectory(time_s=np.arange(2.0), T_world_camera=np.zeros((3, 4, 4)), tracked=np.ones(2, bool))
