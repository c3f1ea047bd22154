"""What a video file holds: its stream, when its frames are shown and, decoded, what each of them looks like."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np

_SIDE = 96
_BLOCK = 4
_THUMB = (12, 16)
_LUMA_FIRST = ("yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p", "nv12", "gray")
_FULL_RANGE = 2
# Threads cost more than they bring on pictures of this size; files are scanned side by side instead.
_ONE = {"threads": 1} if int(av.__version__.split(".")[0]) >= 18 else {}


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What N decoded frames look like, measured on their luma at most 96 px a side.

    `brightness` and `contrast` (N,) are mean and standard deviation of the levels 0..255, `sharpness` (N,) the standard
    deviation of their Laplacian; `change` (N,) is the largest mean difference of a 4 x 4 px block to the frame before;
    `thumb` (N, 12, 16, 3) uint8 RGB.
    """

    brightness: np.ndarray
    contrast: np.ndarray
    sharpness: np.ndarray
    change: np.ndarray
    thumb: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Film:
    """One video file; `error` says why it cannot be read, `damage` why it cannot be decoded to its end."""

    error: str = ""
    damage: str = ""
    codec: str = ""
    height: int = 0
    width: int = 0
    fps: float = 0.0
    times_s: np.ndarray = field(default_factory=lambda: np.empty(0))
    looks: Looks | None = None


def scan(path: Path, *, deep: bool) -> Film:
    """Return what the video at `path` holds; never raises for its content. Frames are decoded only when `deep`."""
    if not path.is_file():
        return Film(error="does not exist")
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            tick = float(stream.time_base or 0)
            times = sorted(packet.pts * tick for packet in container.demux(stream) if packet.pts is not None)
            facts = {
                "codec": stream.codec_context.name,
                "height": stream.codec_context.height,
                "width": stream.codec_context.width,
                "fps": float(stream.average_rate or 0),
                "times_s": np.array(times),
            }
    except (av.FFmpegError, IndexError, ValueError, OSError) as error:
        return Film(error=f"is not a complete video (was its writer killed?): {error}")
    if not times:
        return Film(error="holds no frame")
    looks, damage = _looks(path) if deep else (None, "")
    if looks is not None and not damage and len(looks.brightness) != len(times):
        damage = f"{len(looks.brightness)} of {len(times)} frames can be decoded"
    return Film(**facts, looks=looks, damage=damage)


def _looks(path: Path) -> tuple[Looks | None, str]:
    numbers: list[tuple[float, ...]] = []
    thumbs: list[np.ndarray] = []
    before: np.ndarray | None = None
    damage = ""
    try:
        with av.open(str(path), options={"err_detect": "explode"}) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for frame in container.decode(stream):
                grey = _grey(frame)
                small = frame.reformat(width=_THUMB[1], height=_THUMB[0], format="rgb24", interpolation="AREA", **_ONE)
                thumbs.append(small.to_ndarray())
                blocks = _pooled(grey, _BLOCK)
                change = 0.0 if before is None else float(np.abs(blocks - before).max())
                numbers.append((float(grey.mean()), float(grey.std()), _sharpness(grey), change))
                before = blocks
    except (av.FFmpegError, IndexError, ValueError, OSError) as error:
        damage = f"damaged after {len(numbers)} frames: {error}"
    if not numbers:
        return None, damage or "no frame can be decoded"
    columns = [np.array(column) for column in zip(*numbers, strict=True)]
    names = ("brightness", "contrast", "sharpness", "change")
    return Looks(**dict(zip(names, columns, strict=True)), thumb=np.stack(thumbs)), damage


def _grey(frame: av.VideoFrame) -> np.ndarray:
    """Return a frame's luma (h, w) float32 in 0..255, averaged to at most about 96 px a side."""
    if frame.format.name in _LUMA_FIRST:
        plane = frame.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]
    else:
        rows = frame.to_ndarray(format="gray")
    grey = _pooled(rows.astype(np.float32), max(1, max(rows.shape) // _SIDE))
    # Video levels are 16 to 235 unless the stream says that it uses all.
    full = frame.format.name.startswith(("gray", "yuvj")) or int(frame.color_range) == _FULL_RANGE
    return grey if full else (grey - 16) * (255 / 219)


def _pooled(grey: np.ndarray, block: int) -> np.ndarray:
    if block == 1:
        return grey
    rows, columns = (max(side - side % block, block) for side in grey.shape)
    cut = np.pad(grey, ((0, max(0, rows - grey.shape[0])), (0, max(0, columns - grey.shape[1]))), mode="edge")
    means: np.ndarray = cut[:rows, :columns].reshape(rows // block, block, columns // block, block).mean(axis=(1, 3))
    return means


def _sharpness(grey: np.ndarray) -> float:
    if min(grey.shape) < 3:
        return 0.0
    inner = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner
    return float(laplacian.std())


def pictures(path: Path, *, from_s: float, to_s: float, count: int) -> list[np.ndarray]:
    """Return up to `count` evenly spaced frames (Hi, Wi, 3) uint8 RGB shown from `from_s` to `to_s`, if decodable."""
    found: list[np.ndarray] = []
    wanted = [from_s + (to_s - from_s) * (place + 0.5) / count for place in range(count)]
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            container.seek(int(from_s / float(stream.time_base or 1)), stream=stream)
            for frame in container.decode(stream):
                if len(found) == count or frame.time is None or frame.time >= to_s:
                    break
                if frame.time >= wanted[len(found)] - 0.5 * (to_s - from_s) / count:
                    found.append(frame.to_ndarray(format="rgb24"))
    except (av.FFmpegError, IndexError, ValueError, OSError, OverflowError):
        return found
    return found
