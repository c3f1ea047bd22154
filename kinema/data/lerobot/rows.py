"""The columns of a dataset's data files, of any version, checked against what its episodes say."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from kinema.core.errors import DataError
from kinema.data.lerobot.files import read_table
from kinema.data.lerobot.versions import View

_CHECKED = ("index", "episode_index", "frame_index", "timestamp")


def read_columns(view: View, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return all rows of the features `names`, (N, *shape) in their own dtype, texts (N,) object, all read-only.

    Raises DataError when a file is damaged, a column is missing or not what info.json says, or rows are out of place.
    """
    paths = dict.fromkeys(row.data for row in view.episodes)
    wanted = list(dict.fromkeys([*names, "task_index", *_CHECKED]))
    parts = [read_table(path, wanted) for path in paths]
    try:
        table = pa.concat_tables(parts, promote_options="permissive").combine_chunks()
    except pa.ArrowException as error:
        raise DataError(f"{view.root}: the data files do not have the same columns: {error}") from error
    _check_places(view, table)
    columns = {name: _array(view, table, name) for name in dict.fromkeys([*names, "task_index"])}
    tasks = columns["task_index"]
    if tasks.dtype.kind not in "iu" or tasks.size != len(table):
        raise DataError(f"{view.root}: column 'task_index' is {table['task_index'].type}, expected whole numbers")
    if tasks.min() < 0 or tasks.max() >= len(view.tasks):
        raise DataError(f"{view.root}: task_index {int(tasks.max())} is not in the table of {len(view.tasks)} tasks")
    return columns


def _check_places(view: View, table: pa.Table) -> None:
    total = sum(row.length for row in view.episodes)
    if total != len(table):  # before arrays as long as the episodes claim to be are made
        raise DataError(f"{view.root}: the data files hold {len(table)} rows, the episodes say {total}")
    lengths = np.array([row.length for row in view.episodes])
    starts = np.array([row.start for row in view.episodes])
    steps = np.arange(total) - np.repeat(starts, lengths)
    expected = {"index": np.arange(total), "episode_index": np.repeat(np.arange(len(lengths)), lengths)}
    for name, values in (expected | {"frame_index": steps}).items():
        found = np.ravel(_flat(table, name)[0])
        if not np.array_equal(found, values):
            raise DataError(f"{view.root}: column {name!r} of the data files is not what the episodes say")
    # Half a frame and more would mean another frame of the video.
    times = np.ravel(_flat(table, "timestamp")[0])
    if times.dtype.kind not in "fiu" or times.size != total:
        raise DataError(f"{view.root}: column 'timestamp' is {table['timestamp'].type}, expected a number of seconds")
    late = np.flatnonzero(~(np.abs(times * view.fps - steps) < 0.5))
    if late.size:
        row = int(late[0])
        raise DataError(
            f"{view.root}: row {row} has the timestamp {times[row]:g} s, step {steps[row]} at {view.fps} Hz is "
            f"{steps[row] / view.fps:g} s"
        )


def _array(view: View, table: pa.Table, name: str) -> np.ndarray:
    feature, column = view.features[name], table[name]
    values, kind = _flat(table, name)
    if feature["dtype"] == "string":
        if kind != pa.string() and kind != pa.large_string():
            raise DataError(f"{view.root}: column {name!r} is {column.type}, expected texts")
        return values
    shape = tuple(feature["shape"])
    fits = str(values.dtype) == feature["dtype"] and values.size == len(column) * math.prod(shape)
    if not fits or values.dtype.kind not in "fiub":
        raise DataError(
            f"{view.root}: column {name!r} is {column.type} with {values.size} values, expected {len(column)} x "
            f"{math.prod(shape)} {feature['dtype']}"
        )
    array = np.ascontiguousarray(values).reshape(len(column), *shape)
    array.setflags(write=False)
    return array


def _flat(table: pa.Table, name: str) -> tuple[np.ndarray, pa.DataType]:
    flat = table[name].combine_chunks()
    if isinstance(flat, pa.ChunkedArray):
        flat = pa.concat_arrays(flat.chunks)
    while pa.types.is_list(flat.type) or pa.types.is_large_list(flat.type) or pa.types.is_fixed_size_list(flat.type):
        _check_lists(flat, name)
        flat = flat.flatten()
    if flat.null_count:
        raise DataError(f"column {name!r} holds {flat.null_count} empty values")
    try:
        return flat.to_numpy(zero_copy_only=False), flat.type
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"column {name!r} cannot be read: {error}") from error


def _check_lists(lists: pa.Array, name: str) -> None:
    """Raise DataError unless all lists have one length: flattened, others could add up and be out of place."""
    if lists.null_count:
        raise DataError(f"column {name!r} holds {lists.null_count} empty values")
    lengths = [] if pa.types.is_fixed_size_list(lists.type) else lists.value_lengths().unique().to_pylist()
    if len(lengths) > 1:
        raise DataError(f"column {name!r} holds lists of several lengths: {sorted(lengths)[:5]}")
