"""Replay buffers in zarr format 2: `data/*` arrays of all steps in a row, `meta/episode_ends`; directory or .zip."""

from __future__ import annotations

import functools
import itertools
import json
import lzma
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kinema.core.errors import DataError
from kinema.data.cards import Field
from kinema.data.importers._compressed import CODECS, IMAGE_CODECS, decode
from kinema.data.importers._images import MOST_CHUNK_BYTES, check_size
from kinema.data.importers.base import LazyFields, RawEpisode


class Store:
    """The files of a zarr hierarchy, read by name and never unpacked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path.is_dir() or path.is_file()):
            raise DataError(f"{path}: no such file or directory")
        if self.has("zarr.json"):
            raise DataError(f"{path} is zarr format 3; replay buffers are format 2")

    def has(self, name: str) -> bool:
        """Return whether there is a file `name`."""
        return name in self._zipped if self.path.is_file() else (self.path / name).is_file()

    def read(self, name: str) -> bytes:
        """Return the content of the file `name`, at most MOST_CHUNK_BYTES."""
        try:
            if self.path.is_file():
                return self._unzipped(self._zipped[name])
            place = (self.path / name).resolve(strict=True)
            if not place.is_relative_to(self.path.resolve()):
                raise DataError(f"{self.path}: {name} leads out of the directory, to {place}")
            check_size(f"{self.path}: {name}", (place.stat().st_size,), 1, most=MOST_CHUNK_BYTES)
            return place.read_bytes()
        except (OSError, KeyError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
            raise DataError(f"{self.path}: cannot read {name}: {error}") from error

    def _unzipped(self, member: zipfile.ZipInfo) -> bytes:
        name = f"{self.path}: {member.filename}"
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(f"{name} is compressed with method {member.compress_type}, expected stored or deflated")
        check_size(name, (member.file_size,), 1, most=MOST_CHUNK_BYTES)
        with zipfile.ZipFile(self.path) as archive, archive.open(member) as file:
            # Asked for everything, the library would first decompress what lies behind the size that is claimed.
            return file.read(member.file_size)

    def members(self, group: str) -> list[str]:
        """Return the names directly below `group`."""
        if self.path.is_file():
            inside = (name[len(group) + 1 :] for name in self._zipped if name.startswith(f"{group}/"))
            return sorted({name.split("/")[0] for name in inside} - {".zgroup", ".zattrs", ""})
        folder = self.path / group
        return sorted(p.name for p in folder.iterdir() if p.name[0] != ".") if folder.is_dir() else []

    @functools.cached_property
    def _zipped(self) -> dict[str, zipfile.ZipInfo]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                return {member.filename: member for member in archive.infolist()}
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.path} is not a whole zip file: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Array:
    """One array of plain numbers in a store, read by rows."""

    store: Store
    name: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype
    order: str
    separator: str
    codecs: tuple[Mapping[str, Any], ...]

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Return rows `start` to `stop`; raises DataError for a chunk that is missing or does not decode."""
        check_size(self.name, (stop - start, *self.shape[1:]), self.dtype.itemsize)
        out = np.empty((stop - start, *self.shape[1:]), self.dtype)
        step = self.chunks[0]
        ranges = [range(-(-length // size)) for length, size in zip(self.shape[1:], self.chunks[1:], strict=True)]
        for row in range(start // step, -(-stop // step)):
            low, high = max(start, row * step), min(stop, (row + 1) * step, self.shape[0])
            for rest in itertools.product(*ranges):
                chunk = self._chunk((row, *rest))
                place = tuple(
                    slice(i * size, min((i + 1) * size, length))
                    for i, size, length in zip(rest, self.chunks[1:], self.shape[1:], strict=True)
                )
                inside = tuple(slice(0, part.stop - part.start) for part in place)
                out[(slice(low - start, high - start), *place)] = chunk[
                    (slice(low - row * step, high - row * step), *inside)
                ]
        return out

    @property
    def _most_bytes(self) -> int:
        # A filter may hold wider numbers than the array; what is compressed twice may have grown a little.
        return math.prod(self.chunks) * max(self.dtype.itemsize, 8) + 4096

    def _chunk(self, index: tuple[int, ...]) -> np.ndarray:
        name = f"{self.name}/{self.separator.join(map(str, index))}"
        if not self.store.has(name):
            raise DataError(f"{self.store.path}: chunk {name} is missing: an incomplete copy, or it was not written")
        data: Any = self.store.read(name)
        try:
            for codec in reversed(self.codecs):
                data = decode(codec, data, self._most_bytes)
            values = np.frombuffer(np.ascontiguousarray(data), self.dtype)
            return values.reshape(self.chunks, order="F" if self.order == "F" else "C")
        except (ValueError, RuntimeError, TypeError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise DataError(f"{self.store.path}: chunk {name} does not decode: {error}") from error


def open_array(store: Store, name: str) -> Array:
    """Return the array `name` of `store`; raises DataError for objects, unknown codecs and malformed headers."""
    try:
        header = json.loads(store.read(f"{name}/.zarray"))
        codecs = (*(header.get("filters") or ()), *([header["compressor"]] if header["compressor"] else ()))
        array = Array(
            store=store,
            name=name,
            shape=tuple(int(n) for n in header["shape"]),
            chunks=tuple(int(n) for n in header["chunks"]),
            dtype=np.dtype(header["dtype"] if isinstance(header["dtype"], str) else "O"),
            order=header["order"],
            separator=header.get("dimension_separator", "."),
            codecs=tuple(dict(codec) for codec in codecs),
        )
        ids = [codec["id"] for codec in array.codecs]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{store.path}: {name}/.zarray is malformed: {error!r}") from error
    if array.dtype.kind not in "fiub":
        raise DataError(f"{store.path}: {name} holds {array.dtype} values, expected plain numbers")
    for codec in ids:
        if codec not in CODECS + IMAGE_CODECS:
            raise DataError(f"{store.path}: {name} is compressed with {codec!r}; read are: {', '.join(CODECS)}")
    sizes = all(n >= 0 for n in array.shape) and all(n > 0 for n in array.chunks)
    if not (array.shape and sizes and len(array.shape) == len(array.chunks) and array.separator in (".", "/")):
        raise DataError(f"{store.path}: {name} has shape {array.shape} and chunks {array.chunks}")
    check_size(name, array.chunks, array.dtype.itemsize, most=MOST_CHUNK_BYTES)
    return array


@dataclass(frozen=True, kw_only=True)
class ReplayBuffer:
    """The arrays of a replay buffer and where its episodes end."""

    path: Path
    arrays: Mapping[str, Array]
    ends: tuple[int, ...]

    @property
    def fields(self) -> dict[str, Field]:
        """Every array of `data`, by its name."""
        return {name: Field(shape=a.shape[1:], dtype=str(a.dtype)) for name, a in self.arrays.items()}

    def read(self, index: int) -> RawEpisode:
        """Return one episode; the file does not say whether it succeeded."""
        start, stop = (0, *self.ends)[index], self.ends[index]
        return RawEpisode(
            fields=LazyFields(self.arrays, lambda name: self.arrays[name].rows(start, stop)),
            origin={"file": self.path.name, "episode": index},
        )


def open_replay_buffer(path: Path) -> ReplayBuffer:
    """Return the replay buffer at `path`; raises DataError for one that is malformed or of unequal lengths."""
    store = Store(path)
    if not store.has("meta/episode_ends/.zarray"):
        raise DataError(f"{path} is not a replay buffer: meta/episode_ends is missing")
    ends_array = open_array(store, "meta/episode_ends")
    if len(ends_array.shape) != 1 or ends_array.dtype.kind not in "iu":
        raise DataError(f"{path}: meta/episode_ends is {ends_array.dtype} {ends_array.shape}, expected whole numbers")
    ends = tuple(int(end) for end in ends_array.rows(0, ends_array.shape[0]))
    if not ends or any(end <= start for start, end in itertools.pairwise((0, *ends))):
        raise DataError(f"{path}: meta/episode_ends must rise from above 0, it is {list(ends[:6])}")
    arrays = {name: open_array(store, f"data/{name}") for name in store.members("data")}
    for name, array in arrays.items():
        if array.shape[0] != ends[-1]:
            raise DataError(f"{path}: data/{name} has {array.shape[0]} steps, the episodes have {ends[-1]}")
    return ReplayBuffer(path=path, arrays=arrays, ends=ends)
