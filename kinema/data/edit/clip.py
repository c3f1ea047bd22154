"""An episode's part of a video as a file of its own, without decoding: a hard link, or packets moved over."""

from __future__ import annotations

import os
import shutil
from fractions import Fraction
from pathlib import Path

import av

from kinema.core.errors import DataError


def link(source: Path, target: Path) -> None:
    """Make `target` the file `source` by a hard link, or by a copy where the disk has none.

    Committed videos are never rewritten in place, so that a link is as good as a copy.
    """
    try:
        # Of a symbolic link the file it leads to: the link itself may lead nowhere from the target's place.
        os.link(os.path.realpath(source), target)
    except FileNotFoundError as error:
        raise DataError(f"{error.filename} does not exist") from error
    except OSError:
        # Another file system, or one without links.
        shutil.copyfile(source, target)
        sync_file(target)


def cut(source: Path, target: Path, *, first: int, length: int, fps: int) -> None:
    """Write frames `first` to `first + length` of `source` to `target`, packet by packet.

    Raises DataError when frame `first` is not a key frame, or the video does not hold all of them.
    """
    try:
        with av.open(str(source)) as video, av.open(str(target), "w", format="mp4") as out:
            stream = video.streams.video[0]
            copy = out.add_stream_from_template(stream, opaque=True)
            step = round(1 / (fps * Fraction(stream.time_base or 1)))
            start, end, found = first * step, (first + length) * step, 0
            for packet in video.demux(stream):
                if packet.pts is None or not start <= packet.pts < end:
                    continue
                if found == 0 and not (packet.is_keyframe and packet.pts == start):
                    raise DataError(f"{source}: frame {first} is not a key frame, so it cannot begin a video")
                packet.pts -= start
                packet.dts = None if packet.dts is None else packet.dts - start
                packet.stream = copy
                out.mux(packet)
                found += 1
    except FileNotFoundError as error:
        raise DataError(f"{source} does not exist") from error
    except (av.FFmpegError, IndexError) as error:
        raise DataError(f"{source} is not a complete video: {error}") from error
    if found != length:
        raise DataError(f"{source}: {found} of the frames {first} to {first + length - 1} are there")
    sync_file(target)


def sync_file(path: Path) -> None:
    """Flush a written file to disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
