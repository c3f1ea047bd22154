"""The data files as columns of numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from kinema.data.doctor.base import Place
from kinema.data.doctor.rows import read_parquet
from kinema.data.doctor.survey import DataFile

_SCALARS = {"float": "float32", "double": "float64", "halffloat": "float16"}


def read_data(root: Path, name: str, tables: dict[str, DataFile], trouble: list[tuple[str, Place]]) -> None:
    """Add the data file `name` to `tables`, or note why it cannot be read."""
    table = read_parquet(root, name, "data-unreadable", trouble)
    if table is None:
        return
    columns, types = {}, {}
    for column in dict.fromkeys(table.column_names):
        places = table.schema.get_all_field_indices(column)
        if len(places) > 1:
            detail = f"the column {column!r:.60} is there {len(places)} times"
            trouble.append(("data-unreadable", Place(detail=detail, file=name)))
        values = table.column(places[0])
        types[column] = type_name(values.type)
        columns[column] = matrix(values)
    tables[name] = DataFile(rows=table.num_rows, columns=columns, types=types)


def type_name(kind: pa.DataType) -> str:
    """Return the format's name of an arrow type's numbers, without the list around them."""
    while pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return _SCALARS.get(str(kind), str(kind))


def matrix(values: pa.ChunkedArray) -> np.ndarray | None:
    """Return a column as (N, D); None where it holds nulls, lists of several lengths or no numbers."""
    try:
        rows = len(values)
        while isinstance(values.type, (pa.ListType, pa.FixedSizeListType, pa.LargeListType)):
            if values.null_count:
                return None
            flat = values.combine_chunks().flatten()
            # Flattening alone would hide rows of several lengths whose sum happens to fit.
            if not isinstance(values.type, pa.FixedSizeListType) and len(set(_lengths(values))) > 1:
                return None
            values = pa.chunked_array([flat])
        number = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
        if values.null_count or not (number or pa.types.is_boolean(values.type)):
            return None
        array = values.to_numpy()
        width = len(array) // rows if rows else 1
        return array.reshape(rows, width) if width * rows == len(array) else None
    except (pa.ArrowException, ValueError, TypeError):
        return None


def _lengths(values: pa.ChunkedArray) -> list[int]:
    return [length for chunk in values.chunks for length in chunk.value_lengths().to_pylist()]
