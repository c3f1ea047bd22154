"""HDF5 files read with suspicion: no links, no other files, no objects, nothing that was never written."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from kinema.core.errors import DataError, nearest
from kinema.data.cards import Field
from kinema.data.importers._images import check_size

_DEEPEST = 8


@contextlib.contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Yield the file at `path` for reading; whatever HDF5 finds wrong with it is a DataError that names it."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DataError as error:
        raise error if str(path) in str(error) else DataError(f"{path}: {error}") from error
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: not a whole HDF5 file: {error}") from error


def item(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """Return a member that lies in this very file; links are refused."""
    kind = group.get(name, getlink=True)
    if kind is None:
        raise DataError(f"{group.name}: no {name!r}{nearest(name, group)}; there are: {', '.join(list(group)[:8])}")
    if not isinstance(kind, h5py.HardLink):
        raise DataError(f"{group.name}/{name} is a link ({type(kind).__name__}), which may lead out of the file")
    member = group[name]
    if not isinstance(member, (h5py.Group, h5py.Dataset)):
        raise DataError(f"{member.name} is neither a group nor an array")
    return member


def subgroup(group: h5py.Group, *names: str) -> h5py.Group:
    """Return the group under `names`, one a level."""
    for name in names:
        member = item(group, name)
        if not isinstance(member, h5py.Group):
            raise DataError(f"{member.name} is not a group")
        group = member
    return group


def datasets(group: h5py.Group, prefix: str = "", depth: int = 0) -> dict[str, h5py.Dataset]:
    """Return every dataset below `group` by its path."""
    if depth > _DEEPEST:
        raise DataError(f"{group.name}: groups are nested more than {_DEEPEST} deep")
    found: dict[str, h5py.Dataset] = {}
    for name in group:
        member = item(group, name)
        if isinstance(member, h5py.Group):
            found |= datasets(member, f"{prefix}{name}/", depth + 1)
        else:
            found[prefix + name] = member
    return found


def dataset(group: h5py.Group, path: str) -> h5py.Dataset:
    """Return the dataset at `path` below `group`."""
    *groups, name = path.split("/")
    member = item(subgroup(group, *groups), name)
    if not isinstance(member, h5py.Dataset):
        raise DataError(f"{member.name} is a group, expected an array")
    return member


def numbers(stored: h5py.Dataset) -> np.ndarray:
    """Return a dataset of plain numbers whole; raises DataError for objects, other files and parts never written."""
    if stored.dtype.kind not in "fiub":
        raise DataError(f"{stored.name}: dtype {stored.dtype} is not read, expected plain numbers")
    check_stored(stored)
    check_size(stored.name, stored.shape, stored.dtype.itemsize)
    return np.asarray(stored[()])


def check_stored(stored: h5py.Dataset) -> None:
    """Raise DataError for a dataset whose values lie elsewhere or were never written."""
    if stored.is_virtual or stored.external:
        raise DataError(f"{stored.name}: its values lie in another file, which is not read")
    if stored.chunks is None:
        written = stored.size == 0 or stored.id.get_storage_size() > 0
    else:
        chunks = [-(-length // step) for length, step in zip(stored.shape, stored.chunks, strict=True)]
        written = stored.id.get_num_chunks() == np.prod(chunks)
    if not written:
        raise DataError(f"{stored.name}: parts of it were never written; was the recording interrupted?")


def fields_of(found: Mapping[str, h5py.Dataset]) -> dict[str, Field]:
    """Return the fields of datasets (T, ...) of numbers; others cannot be used and are left out."""
    return {
        name: Field(shape=tuple(stored.shape[1:]), dtype=str(stored.dtype))
        for name, stored in found.items()
        if stored.dtype.kind in "fiub" and stored.ndim > 0
    }


def json_attribute(owner: h5py.Group, name: str) -> dict[str, Any]:
    """Return the JSON object in an attribute, or an empty one when there is no such attribute."""
    if name not in owner.attrs:
        return {}
    text = owner.attrs[name]
    try:
        content = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{owner.name}: attribute {name!r} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{owner.name}: attribute {name!r} holds a {type(content).__name__}, expected an object")
    return content


def whole_number(owner: h5py.Group, name: str) -> int | None:
    """Return an attribute that counts something, None when it is not there."""
    value = owner.attrs.get(name)
    if value is None:
        return None
    if not isinstance(value, (int, np.integer)) or value < 0:
        raise DataError(f"{owner.name}: attribute {name!r} is {value!r:.80}, expected a whole number")
    return int(value)
