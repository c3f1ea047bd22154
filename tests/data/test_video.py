"""Frames survive the codec, small saturated objects included."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest

from kinema.core.errors import DataError, KinemaError
from kinema.data.video import VideoCodec, decode, encode, encode_mp4_bytes

COLOURS = ((230, 20, 20), (20, 200, 30), (30, 40, 230), (240, 220, 10), (220, 30, 220))


def scene(length: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return frames of moving 3 px balls on a smooth background, and where the balls are."""
    y, x = np.mgrid[:height, :width]
    background = np.stack([120 + 40 * x / width, 110 + 50 * y / height, 100 + 0 * x], -1).round().astype(np.uint8)
    frames, balls = np.repeat(background[None], length, axis=0), np.zeros((length, height, width), bool)
    for step in range(length):
        for number, colour in enumerate(COLOURS):
            row, column = (7 + 9 * number + step) % (height - 4), (5 + 11 * number + 2 * step) % (width - 4)
            frames[step, row : row + 3, column : column + 3] = colour
            balls[step, row : row + 3, column : column + 3] = True
    return frames, balls


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


@pytest.mark.parametrize("side", [64, 96, 160])
def test_default_codec_keeps_small_coloured_balls(tmp_path: Path, side: int) -> None:
    frames, balls = scene(20, side, side)
    encode(frames, tmp_path / "v.mp4", 10, VideoCodec())
    decoded = decode(tmp_path / "v.mp4")
    assert decoded.shape == frames.shape and decoded.dtype == np.uint8
    assert psnr(frames, decoded) > 44
    for channel in range(3):
        assert psnr(frames[balls][:, channel], decoded[balls][:, channel]) > 36
    assert (tmp_path / "v.mp4").stat().st_size < frames.size / 10


def test_halved_chroma_loses_them(tmp_path: Path) -> None:
    frames, balls = scene(10, 64, 64)
    encode(frames, tmp_path / "v.mp4", 10, VideoCodec(pixel_format="yuv420p", crf=4))
    assert psnr(frames[balls], decode(tmp_path / "v.mp4")[balls]) < 25


@pytest.mark.parametrize("encoder", ["libx264", "libx265", "libsvtav1"])
@pytest.mark.parametrize("size", [(65, 71), (64, 64)])
def test_every_encoder_keeps_count_order_and_odd_sizes(tmp_path: Path, encoder: str, size: tuple[int, int]) -> None:
    frames = np.zeros((9, *size, 3), np.uint8)
    frames += (np.arange(9, dtype=np.uint8) * 25)[:, None, None, None]
    encode(frames, tmp_path / "v.mp4", 7, VideoCodec(encoder=encoder, pixel_format="yuv420p", crf=20))
    decoded = decode(tmp_path / "v.mp4", size=size)
    assert decoded.shape == frames.shape
    assert np.abs(decoded.mean(axis=(1, 2, 3)) - np.arange(9) * 25).max() < 4


@pytest.mark.parametrize("length", [1, 2])
@pytest.mark.parametrize("gop", [2, 12])
def test_the_shortest_films_have_times_of_their_own(tmp_path: Path, length: int, gop: int) -> None:
    """x265 says nothing of decoding times where there is nothing to reorder: what is written may not be left over."""
    codec, frames = VideoCodec(encoder="libx265", gop=gop), scene(length, 64, 96)[0]
    made = set()
    for number in range(8):
        encode(frames, tmp_path / f"{number}.mp4", 10, codec)
        made.add((tmp_path / f"{number}.mp4").read_bytes())
        np.random.default_rng(number).random(2**16)  # other rubbish in freed memory
    assert len(made) == 1 and len(decode(tmp_path / "0.mp4")) == length
    with av.open(str(tmp_path / "0.mp4")) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
        assert [packet.dts for packet in packets] == [packet.pts for packet in packets]


@pytest.mark.parametrize("fps", [1, 7, 10, 30, 60])
@pytest.mark.parametrize("length", [1, 2, 31])
def test_presentation_time_is_the_row(tmp_path: Path, fps: int, length: int) -> None:
    encode(scene(length, 32, 32)[0], tmp_path / "v.mp4", fps, VideoCodec())
    assert len(decode(tmp_path / "v.mp4")) == length
    with av.open(str(tmp_path / "v.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
        assert container.streams.video[0].average_rate == fps
    assert np.allclose(times, np.arange(length) / fps, atol=1e-4)


def test_same_frames_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        encode(scene(5, 64, 64)[0], tmp_path / name, 10, VideoCodec())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("size", [(64, 64), (33, 47)])
def test_browser_video(size: tuple[int, int]) -> None:
    content = encode_mp4_bytes(scene(6, *size)[0], 12.5)
    assert content.index(b"moov") < content.index(b"mdat")
    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, float(stream.average_rate)) == ("h264", "yuv420p", 12.5)
        assert (stream.height % 2, stream.width % 2) == (0, 0)
        assert sum(1 for _ in container.decode(stream)) == 6


def test_damaged_videos_are_named(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    encode(scene(8, 32, 32)[0], path, 10, VideoCodec())
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"v\.mp4 is not a complete video"):
        decode(path)
    with pytest.raises(DataError, match=r"none\.mp4 does not exist"):
        decode(tmp_path / "none.mp4")
    path.write_bytes(content)
    with pytest.raises(DataError, match="frames are 32x32, expected 30x32"):
        decode(path, size=(30, 32))


def test_a_skipped_presentation_time_is_found(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv444p"
        for pts in (0, 1, 2, 4, 5):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            frame.pts = pts
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(DataError, match="a frame is missing or repeated"):
        decode(tmp_path / "v.mp4")


def test_bad_codecs_and_frames(tmp_path: Path) -> None:
    with pytest.raises(KinemaError, match="unknown video encoder 'x264'; did you mean 'libx264'"):
        VideoCodec(encoder="x264")
    with pytest.raises(KinemaError, match="unknown pixel format of libsvtav1 'yuv444p'"):
        VideoCodec(encoder="libsvtav1")
    with pytest.raises(KinemaError, match="crf 99"):
        VideoCodec(crf=99)
    with pytest.raises(KinemaError, match=r"frames: shape \(2, 8, 8\) uint8, expected"):
        encode(np.zeros((2, 8, 8), np.uint8), tmp_path / "v.mp4", 10, VideoCodec())
    with pytest.raises(KinemaError, match="fps 0"):
        encode_mp4_bytes(np.zeros((2, 8, 8, 3), np.uint8), 0)


def test_the_same_frames_give_the_same_bytes_whatever_was_encoded_before(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    frames = np.cumsum(rng.normal(0, 12, (40, 64, 64, 3)), axis=0).astype(np.int64).astype(np.uint8)
    contents = set()
    for attempt in range(20):
        encode(frames[: 5 + attempt], tmp_path / "other.mp4", 80, VideoCodec())
        encode(frames, tmp_path / "video.mp4", 80, VideoCodec())
        contents.add((tmp_path / "video.mp4").read_bytes())
    assert len(contents) == 1
