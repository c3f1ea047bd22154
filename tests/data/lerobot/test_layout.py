"""Names and metadata of the format."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kinema.core.errors import SpecMismatch
from kinema.core.spec import RobotSpec
from kinema.data.lerobot import layout
from kinema.data.video import VideoCodec

NAMES = {
    "image.front": "observation.images.front",
    "vector.proprioception": "observation.state",
    "vector.full_state": "observation.environment_state",
    "vector.force": "observation.force",
    "action": "action",
}


@pytest.mark.parametrize(("key", "feature"), NAMES.items())
def test_names_go_both_ways(key: str, feature: str) -> None:
    assert layout.feature_key(key) == feature
    assert layout.sample_key(feature) == key


@pytest.mark.parametrize("key", ["vector.state", "vector.images.x", "image.a/b", "image...", "reward"])
def test_names_that_do_not_fit(key: str) -> None:
    with pytest.raises(SpecMismatch):
        layout.feature_key(key)


def test_info_has_the_formats_entries(spec: RobotSpec) -> None:
    info = layout.info(spec, VideoCodec(), episodes=3, frames=20, tasks=2)
    assert info["codebase_version"] == "v3.0" and info["fps"] == 10 and info["splits"] == {"train": "0:3"}
    assert info["data_path"] == "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    assert info["video_path"] == "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    assert info["features"]["observation.force"] == {"dtype": "float32", "shape": [1], "names": ["f"]}
    assert info["features"]["index"] == {"dtype": "int64", "shape": [1], "names": None}
    camera = info["features"]["observation.images.front"]
    assert camera["shape"] == [33, 31, 3] and camera["names"] == ["height", "width", "channels"]
    assert camera["info"]["video.pix_fmt"] == "yuv444p" and camera["info"]["video.codec"] == "h264"


def test_rate_must_be_whole(spec: RobotSpec) -> None:
    with pytest.raises(SpecMismatch, match=r"rate_hz 12\.5: the dataset format needs a whole number"):
        layout.frames_per_second(replace(spec, rate_hz=12.5))


def test_twice_the_same_camera(spec: RobotSpec) -> None:
    cameras = (spec.observation.cameras[0],) * 2
    with pytest.raises(SpecMismatch, match=r"'image\.front' is there twice"):
        replace(spec, observation=replace(spec.observation, cameras=cameras))
