"""Frames to MP4 and back with PyAV: one row, one frame, one presentation time.

The default keeps full chroma. On synthetic scenes of saturated balls 3 px wide (64-160 px images), yuv420p holds the
balls to 14 dB whatever the quality, because their colour is averaged over 2x2 pixels; yuv444p holds 42 dB.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np

from kinema.core.errors import DataError, KinemaError, UnavailableError, unknown

_PIXEL_FORMATS = {
    "libx264": ("yuv444p", "yuv420p"),
    "libx265": ("yuv444p", "yuv420p"),
    "libsvtav1": ("yuv420p",),
}
_PRESETS = {"libx264": "medium", "libx265": "fast", "libsvtav1": "8"}
_FEWEST_REORDERED = 3
"""Frames: fewer have no order but their own, and x265 leaves their decoding times what its memory held before."""
_STREAM_NAMES = {"libx264": "h264", "libx265": "hevc", "libsvtav1": "av1"}


@dataclass(frozen=True, kw_only=True)
class VideoCodec:
    """How frames are compressed: encoder, pixel format, quality (`crf`, lower is better) and frames per key frame.

    Measured at 96 px on moving 3 px balls: libx264 yuv444p crf 8 gives 50 dB overall, 42 dB on the balls and
    1.2 kB per frame; libx265 at 1.1 kB 34 dB on the balls; libsvtav1 has no 4:4:4 and stays at 14 dB.
    """

    encoder: str = "libx264"
    pixel_format: str = "yuv444p"
    crf: int = 8
    gop: int = 2
    preset: str | None = None

    def __post_init__(self) -> None:
        if self.encoder not in _PIXEL_FORMATS:
            raise unknown("video encoder", self.encoder, _PIXEL_FORMATS)
        if self.pixel_format not in _PIXEL_FORMATS[self.encoder]:
            raise unknown(f"pixel format of {self.encoder}", self.pixel_format, _PIXEL_FORMATS[self.encoder])
        if not 0 <= self.crf <= 51:
            raise KinemaError(f"crf {self.crf}: expected 0 (best) to 51")
        if self.gop < 1:
            raise KinemaError(f"gop {self.gop}: expected at least 1 frame per key frame")

    @property
    def stream_name(self) -> str:
        """The name of the compressed stream, as ffprobe reports it."""
        return _STREAM_NAMES[self.encoder]

    @property
    def options(self) -> dict[str, str]:
        """The encoder's private options."""
        options = {"crf": str(self.crf), "g": str(self.gop), "preset": self.preset or _PRESETS[self.encoder]}
        if self.encoder == "libx264":
            # B-frames and the lookahead that places them make x264's output vary from run to run, even on one thread;
            # with two frames a group there is nothing to look ahead to.
            options |= {"bf": "0", "x264-params": "rc-lookahead=0:sync-lookahead=0:mbtree=0"}
        elif self.encoder == "libx265":
            options["x265-params"] = "log-level=none:pools=1:frame-threads=1"
        elif self.encoder == "libsvtav1":
            options["svtav1-params"] = "lp=1"
        return options


def encode(frames: np.ndarray, path: Path, fps: int, codec: VideoCodec) -> None:
    """Write `frames` (T, Hi, Wi, 3) uint8 RGB to the MP4 file `path`; frame t is shown at t / fps seconds.

    With yuv420p an odd height or width is padded by repeating the last row or column; `decode` crops it off again.
    """
    content = _mux(frames, fps, codec)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise UnavailableError(f"cannot write {path}: {error.strerror or error}") from error


def decode(path: Path, *, size: tuple[int, int] | None = None) -> np.ndarray:
    """Return all frames (T, Hi, Wi, 3) uint8 RGB of the video at `path`, cropped to `size` = (Hi, Wi) when given.

    Raises DataError when the file is truncated, damaged, or skips or repeats a presentation time.
    """
    frames: list[np.ndarray] = []
    times: list[int] = []
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            step = 1 / (Fraction(stream.average_rate or 1) * Fraction(stream.time_base or 1))
            for frame in container.decode(stream):
                frames.append(frame.to_ndarray(format="rgb24"))
                times.append(-1 if frame.pts is None else frame.pts)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except (av.FFmpegError, IndexError) as error:
        raise DataError(f"{path} is not a complete video (was its writer killed?): {error}") from error
    if not frames:
        raise DataError(f"{path} holds no frame")
    if len(frames) > 1 and [round(pts / step) for pts in times] != list(range(len(frames))):
        raise DataError(f"{path}: the presentation times are not 0, 1, 2, ...: a frame is missing or repeated")
    video = np.stack(frames)
    if size is None:
        return video
    padded = tuple(side + side % 2 for side in size)
    if video.shape[1:3] not in (size, padded):
        raise DataError(f"{path}: frames are {video.shape[1]}x{video.shape[2]}, expected {size[0]}x{size[1]}")
    return video[:, : size[0], : size[1]]


def encode_mp4_bytes(frames: np.ndarray, fps: float) -> bytes:
    """Return `frames` (T, Hi, Wi, 3) uint8 RGB as an H.264 yuv420p MP4 that every browser plays while it loads."""
    codec = VideoCodec(pixel_format="yuv420p", crf=18, gop=30)
    # The muxer moves the index to the front by reading its output again, which needs a real file.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        _mux(frames, fps, codec, path)
        return path.read_bytes()


def _mux(frames: np.ndarray, fps: float, codec: VideoCodec, faststart: Path | None = None) -> bytes:
    _check(frames, fps)
    buffer = io.BytesIO()
    target = buffer if faststart is None else str(faststart)
    options = {} if faststart is None else {"movflags": "faststart"}
    with VideoStream(target, frames.shape[1], frames.shape[2], fps, codec, options) as stream:
        for image in frames:
            stream.write(image)
    return buffer.getvalue()


class VideoStream:
    """An MP4 that grows frame by frame: frame t is shown at t / fps seconds; `target` is a path or a binary file.

    The same frames give the same bytes on every machine: one thread, no clock. Leaving the `with` block finishes the
    file, or with an error gives it up.
    """

    def __init__(
        self,
        target: str | BinaryIO,
        height: int,
        width: int,
        fps: float,
        codec: VideoCodec,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self._what = f"{codec.encoder} cannot encode {height}x{width} {codec.pixel_format} frames"
        self._frames = 0
        # 4:2:0 holds one colour for 2x2 pixels: an odd side is padded by repeating the last row or column.
        even = codec.pixel_format == "yuv420p"
        self._odd = (height % 2 * even, width % 2 * even)
        with self._named():
            self._container = av.open(target, "w", format="mp4", options=dict(options or {}))
            rate = Fraction(fps).limit_denominator(1001)
            stream = self._container.add_stream(codec.encoder, rate=rate, options=codec.options)
            stream.height, stream.width = height + self._odd[0], width + self._odd[1]
            stream.pix_fmt = codec.pixel_format
            stream.codec_context.thread_count = 1
        self._stream = stream

    def __len__(self) -> int:
        return self._frames

    def __enter__(self) -> VideoStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if error is None:
            self.finish()
        else:
            self.give_up()

    def write(self, image: np.ndarray) -> None:
        """Append one image (Hi, Wi, 3) uint8 RGB; a write error of the target's file is raised as it is."""
        if any(self._odd):
            image = np.pad(image, ((0, self._odd[0]), (0, self._odd[1]), (0, 0)), mode="edge")
        with self._named():
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts = self._frames
            self._container.mux(self._stream.encode(frame))
        self._frames += 1

    def finish(self) -> None:
        """Write what the encoder still holds, and the index."""
        with self._named():
            for packet in self._stream.encode():
                if self._frames < _FEWEST_REORDERED:
                    packet.dts = packet.pts
                self._container.mux(packet)
            self._container.close()

    def give_up(self) -> None:
        """Let go of encoder and container; the file is not a video."""
        with contextlib.suppress(av.FFmpegError, OSError):
            self._container.close()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except av.FFmpegError as error:
            raise UnavailableError(f"{self._what}: {error}") from error


def _check(frames: np.ndarray, fps: float) -> None:
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
        raise KinemaError(
            f"frames: shape {frames.shape} {frames.dtype}, expected (T, Hi, Wi, 3) uint8, none of them empty"
        )
    if not fps > 0:
        raise KinemaError(f"fps {fps}: expected more than 0")
