"""A frame read by its number is the frame of a full decode, with any codec and any group of pictures."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from kinema.core.errors import DataError
from kinema.data.decoding import VideoReader
from kinema.data.video import VideoCodec, decode, encode

CODECS = {
    "AV1, 2": ("libsvtav1", {"g": "2", "crf": "30", "preset": "12", "svtav1-params": "lp=1"}),
    "H.264, 2": ("libx264", {"g": "2"}),
    "H.264 with B frames, 30": ("libx264", {"g": "30"}),
    "H.264, open groups": ("libx264", {"g": "12", "x264-params": "open-gop=1"}),
    "H.265, open groups": ("libx265", {"g": "12", "x265-params": "log-level=none:pools=1"}),
}


def made(path: Path, name: str, length: int) -> Path:
    encoder, options = CODECS[name]
    texture = np.random.default_rng(1).integers(0, 255, (20, 20, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=30, options=options)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for step in range(length):
            image = np.ascontiguousarray(texture[step % 60 : step % 60 + 64, step % 50 : step % 50 + 96])
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = step
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("name", CODECS)
def test_any_frame_alone_and_any_together(tmp_path: Path, name: str) -> None:
    path = made(tmp_path / "v.mp4", name, 41)
    whole = decode(path)
    reader = VideoReader(path, size=(64, 96), length=41)
    for number in np.random.default_rng(0).permutation(41)[:20].tolist():
        found = dict(reader.read([number]))
        assert number in found
        assert all(np.array_equal(image, whole[other]) for other, image in found.items())
    several = list(reader.read([2, 3, 9, 10, 40]))
    assert {2, 3, 9, 10, 40} <= {number for number, _ in several} and len(several) == len(dict(several))
    assert all(np.array_equal(image, whole[number]) for number, image in several)
    reader.close()


def test_a_short_group_of_pictures_is_all_that_is_decoded(tmp_path: Path) -> None:
    reader = VideoReader(made(tmp_path / "v.mp4", "AV1, 2", 20), size=(64, 96), length=20)
    assert sorted(dict(reader.read([7]))) == [6, 7]
    assert sorted(dict(reader.read([6]))) == [6, 7]


def test_padding_is_cropped(tmp_path: Path) -> None:
    frames = np.full((4, 33, 31, 3), 90, np.uint8)
    encode(frames, tmp_path / "v.mp4", 10, VideoCodec(pixel_format="yuv420p"))
    assert dict(VideoReader(tmp_path / "v.mp4", size=(33, 31), length=4).read([1]))[1].shape == (33, 31, 3)


def test_what_does_not_fit_is_told_at_once(tmp_path: Path) -> None:
    path = made(tmp_path / "v.mp4", "H.264, 2", 10)
    with pytest.raises(DataError, match=r"v\.mp4 holds 10 frames, its episodes have 11 rows"):
        VideoReader(path, size=(64, 96), length=11)
    with pytest.raises(DataError, match="frames are 64x96, expected 64x64"):
        VideoReader(path, size=(64, 64), length=10)
    with pytest.raises(DataError, match=r"none\.mp4 does not exist"):
        VideoReader(tmp_path / "none.mp4", size=(64, 96), length=10)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="not a complete video"):
        VideoReader(path, size=(64, 96), length=10)


def test_a_frame_that_is_not_there(tmp_path: Path) -> None:
    reader = VideoReader(made(tmp_path / "v.mp4", "H.264, 2", 10), size=(64, 96), length=10)
    with pytest.raises(DataError, match="frame 12 of 10 is missing or damaged"):
        list(reader.read([12]))
