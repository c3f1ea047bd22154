"""Parquet tables joined by row groups, videos by packets: content unchanged, nothing decoded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pyarrow as pa
import pyarrow.parquet as pq

from kinema.core.errors import DataError
from kinema.data.lerobot.files import read_table


def table_kind(path: Path) -> Any:
    """Return what two data files must share to be joined: names and types of their columns."""
    return _schema(path).remove_metadata()


def video_kind(path: Path) -> Any:
    """Return what two videos must share to be joined: codec, its parameters, frame size and rate."""
    with _opened(path) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        return (context.name, context.extradata, context.width, context.height, context.pix_fmt, stream.average_rate)


def join_tables(paths: Sequence[Path], target: Path) -> list[int]:
    """Write the tables one after another, a row group each, and return the number of rows of each."""
    counts = []
    with open(target, "wb") as file:
        with pq.ParquetWriter(file, _schema(paths[0]), compression="snappy", use_dictionary=True) as writer:
            for path in paths:
                table = read_table(path)
                writer.write_table(table.replace_schema_metadata(writer.schema.metadata))
                counts.append(len(table))
        file.flush()
        os.fsync(file.fileno())
    return counts


def join_videos(paths: Sequence[Path], target: Path) -> list[int]:
    """Write the videos one after another and return the number of frames of each.

    Packets are copied; each video begins with a key frame, so that its frames decode to what they were.
    """
    counts: list[int] = []
    delay = max(_delay(path) for path in paths)
    with open(target, "wb") as file:
        with av.open(file, "w", format="mp4") as output:
            stream = None
            for path in paths:
                with _opened(path) as source:
                    if stream is None:
                        # Opaque: only the stream's parameters, since no encoder is needed.
                        stream = output.add_stream_from_template(source.streams.video[0], opaque=True)
                    counts.append(_copy(source, output, stream, sum(counts), delay, path))
        file.flush()
        os.fsync(file.fileno())
    return counts


def _copy(source: Any, output: Any, stream: Any, frames: int, delay: int, path: Path) -> int:
    """Return how many frames of `source` were put behind the `frames` that are there."""
    ticks, count = _ticks(source, path), 0
    for packet in source.demux(source.streams.video[0]):
        if packet.dts is None:
            continue  # the end
        # Decoding times count the packets, so that they rise across videos that reorder frames differently.
        packet.dts = (frames + count - delay) * ticks
        packet.pts += frames * ticks
        packet.stream = stream
        output.mux(packet)
        count += 1
    return count


def _ticks(container: Any, path: Path) -> int:
    video = container.streams.video[0]
    ticks = 1 / (Fraction(video.average_rate) * Fraction(video.time_base))
    if ticks.denominator != 1:
        raise DataError(f"{path}: {ticks} ticks a frame, expected a whole number")
    return int(ticks)


def _delay(path: Path) -> int:
    """Return by how many frames decoding runs ahead of showing."""
    with _opened(path) as container:
        first = next(packet.dts for packet in container.demux(container.streams.video[0]))
        return max(0, -int(first or 0) // _ticks(container, path))


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} is truncated or not a parquet file: {error}") from error


def _opened(path: Path) -> Any:
    try:
        return av.open(str(path))
    except (av.FFmpegError, IndexError) as error:
        raise DataError(f"{path} is not a complete video: {error}") from error
