"""Any frames of a video, without decoding those before them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from kinema.core.errors import DataError

_FURTHER_BACK = 32
"""Frames: more than the groups of pictures of an encoder that lean on each other usually have."""


class VideoReader:
    """The frames of the video at `path` by number, with the file and its decoder kept open until `close`.

    `size` is (Hi, Wi), to which padding is cropped; `length` is how many frames there must be. Raises DataError when
    the file is missing or cut short, or says itself that its size or number of frames is another. One thread at a
    time; the decoder uses one thread and leaves Python's lock to others while it works.
    """

    def __init__(self, path: Path, *, size: tuple[int, int], length: int) -> None:
        self._path, self._size, self._length = path, size, length
        try:
            self._container = av.open(str(path))
            self._stream = self._container.streams.video[0]
        except FileNotFoundError as error:
            raise DataError(f"{path} does not exist") from error
        except (av.FFmpegError, IndexError) as error:
            raise DataError(f"{path} is not a complete video (was its writer killed?): {error}") from error
        self._codec = self._stream.codec_context
        # Frame threads would decode ahead what a jump to another place throws away.
        self._codec.thread_count = 1
        rate = Fraction(self._stream.average_rate or 1)
        self.rate_hz = float(rate)
        """Frames per second."""
        self._step = 1 / (rate * Fraction(self._stream.time_base or 1))
        padded = tuple(side + side % 2 for side in size)
        found = (self._codec.height, self._codec.width)
        if found not in (size, padded):
            raise DataError(f"{path}: frames are {found[0]}x{found[1]}, expected {size[0]}x{size[1]}")
        if self._stream.frames not in (0, length):  # 0: the container does not say
            raise DataError(f"{path} holds {self._stream.frames} frames, its episodes have {length} rows")

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (number, frame (Hi, Wi, 3) uint8 RGB) of the ascending `numbers` and of what is decoded with them.

        Each wanted group of pictures is decoded whole, once, in order of time. Raises DataError for a frame that cannot
        be decoded.
        """
        done: set[int] = set()
        try:
            for number in numbers:
                # Groups may lean on the one before, as HEVC's do: decoded from further back nothing is missing.
                for begin, whole_group in ((number, True), (number - _FURTHER_BACK, False), (0, False)):
                    if number in done:
                        break
                    for found, frame in self._from(begin, number, whole_group):
                        if found not in done:
                            done.add(found)
                            yield found, self._picture(frame)
                if number not in done:
                    raise DataError(f"{self._path}: frame {number} of {self._length} is missing or damaged")
        except av.FFmpegError as error:
            raise DataError(f"{self._path} is not a complete video (was its writer killed?): {error}") from error

    def _from(self, begin: int, number: int, whole_group: bool) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield the frames from the key frame at or before `begin`: to the next key frame, or else up to `number`."""
        self._container.seek(max(0, round(begin * self._step)), stream=self._stream)
        begun = False
        for packet in self._container.demux(self._stream):
            last = packet.size == 0 or (whole_group and begun and packet.is_keyframe)
            begun = True
            for frame in self._codec.decode(None if last else packet):
                found = -1 if frame.pts is None else round(frame.pts / self._step)
                if not frame.is_corrupt:
                    yield found, frame
                if found >= number and not whole_group:
                    return
            if last:
                return

    def _picture(self, frame: av.VideoFrame) -> np.ndarray:
        image = frame.to_ndarray(format="rgb24")[: self._size[0], : self._size[1]]
        return np.ascontiguousarray(image)
