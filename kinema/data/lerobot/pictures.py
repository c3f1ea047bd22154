"""Where a camera's frames lie in a dataset of any version: in a video, or as compressed images in a data file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kinema.core.errors import DataError
from kinema.data.decoding import VideoReader
from kinema.data.importers._images import decode_image
from kinema.data.lerobot.versions import View


@dataclass(frozen=True, kw_only=True)
class FrameFile:
    """A file with frames of one camera, those of `episodes`: a video, or a data file with a `column` of images.

    `turned` frames lie upside down in it, `bgr` ones have blue first.
    """

    path: Path
    fps: float
    episodes: tuple[int, ...]
    column: str | None = None
    turned: bool = False
    bgr: bool = False

    def open(self, *, size: tuple[int, int], length: int) -> Frames:
        """Return its frames (Hi, Wi) = `size`, which must be `length`; raises DataError naming the file."""
        try:
            if self.column is not None:
                return Frames(self, Images(self.path, self.column, size=size, length=length))
            video = VideoReader(self.path, size=size, length=length)
        except DataError as error:
            first, last = self.episodes[0], self.episodes[-1]
            which = f"episode {first}" if first == last else f"episodes {first} to {last}"
            raise DataError(f"{which}: {error}") from error
        # Frames are found by their number: over the whole file the clocks may not come apart by half a frame.
        if abs(video.rate_hz / self.fps - 1) * length >= 0.5:
            raise DataError(f"{self.path} runs at {video.rate_hz:g} frames per second, the dataset at {self.fps:g}")
        return Frames(self, video)


class Frames:
    """The frames of a `FrameFile` by number, the right way up and RGB."""

    def __init__(self, file: FrameFile, reader: VideoReader | Images) -> None:
        self._file, self._reader = file, reader

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (number, frame (Hi, Wi, 3) uint8 RGB) of the ascending `numbers`, and perhaps of their neighbours."""
        for number, image in self._reader.read(numbers):
            turned = image[::-1, ::-1] if self._file.turned else image
            yield number, np.ascontiguousarray(turned[..., ::-1] if self._file.bgr else turned)


class Images:
    """The PNG or JPEG images in a column of a data file, by row."""

    def __init__(self, path: Path, column: str, *, size: tuple[int, int], length: int) -> None:
        self._path, self._column, self._size = path, column, size
        try:
            self._file = pq.ParquetFile(path)
        except FileNotFoundError as error:
            raise DataError(f"{path} does not exist") from error
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path} is truncated or not a parquet file: {error}") from error
        if column not in self._file.schema_arrow.names:
            raise DataError(f"{path} has no column {column!r}")
        metadata = self._file.metadata
        counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._starts = np.cumsum([0, *counts])
        if self._starts[-1] != length:
            raise DataError(f"{path} holds {self._starts[-1]} images, its episodes have {length} rows")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (number, image (Hi, Wi, 3) uint8) of `numbers`."""
        groups = np.searchsorted(self._starts, numbers, "right") - 1
        for group in np.unique(groups):
            cells = self._file.read_row_group(int(group), columns=[self._column])[self._column]
            for number in np.asarray(numbers)[groups == group].tolist():
                yield number, self._image(number, cells[number - int(self._starts[group])].as_py())

    def _image(self, number: int, cell: object) -> np.ndarray:
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        name = f"{self._path}, {self._column}, row {number}"
        if not isinstance(content, bytes):
            raise DataError(f"{name}: the image is not in the file")
        image = decode_image(content, name)
        if image.shape[:2] != self._size:
            height, width = self._size
            raise DataError(f"{name}: the image is {image.shape[0]}x{image.shape[1]}, expected {height}x{width}")
        return image


def frame_files(
    view: View, feature: str, *, turned: bool = False, bgr: bool = False
) -> dict[FrameFile, list[tuple[int, int, int]]]:
    """Return, for each file with frames of a camera, its episodes as (first frame in the file, first row, length).

    Raises DataError when the episodes of a file do not follow each other frame by frame.
    """
    image = view.features[feature]["dtype"] == "image"
    found: dict[Path, list[tuple[int, int, int]]] = {}
    owners: dict[Path, list[int]] = {}
    for row in view.episodes:
        path, seconds = (row.data, 0.0) if image else row.videos[feature]
        parts = found.setdefault(path, [])
        first = sum(length for _, _, length in parts) if image else round(seconds * view.fps)
        parts.append((first, row.start, row.length))
        owners.setdefault(path, []).append(row.index)
    files = {}
    for path, parts in found.items():
        _check_tiling(path, parts, owners[path])
        episodes, column = tuple(owners[path]), feature if image else None
        file = FrameFile(path=path, fps=view.fps, episodes=episodes, column=column, turned=turned, bgr=bgr)
        files[file] = parts
    return files


def _check_tiling(path: Path, parts: list[tuple[int, int, int]], episodes: list[int]) -> None:
    expected = 0
    for (first, _, length), index in sorted(zip(parts, episodes, strict=True)):
        if first != expected:
            raise DataError(f"{path}: episode {index} begins at frame {first}, those before it have {expected} frames")
        expected += length
