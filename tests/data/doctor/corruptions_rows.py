"""Corruptions of the data files: of the format too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from clean_datasets import read_columns, write_columns
from corruption_tools import (
    data_rows,
    edit_data,
    file_of,
    some_episode,
)

Rng = np.random.Generator
Said = tuple[str, int | None]


def _truncate(path: Path, rng: Rng) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * rng.uniform(0.1, 0.95))])


def data_missing(root: Path, rng: Rng) -> Said:
    file_of(root, "data", some_episode(rng)).unlink()
    return "data-unreadable", None


def data_truncated(root: Path, rng: Rng) -> Said:
    _truncate(file_of(root, "data", some_episode(rng)), rng)
    return "data-unreadable", None


def data_garbage(root: Path, rng: Rng) -> Said:
    file_of(root, "data", some_episode(rng)).write_bytes(rng.bytes(int(rng.integers(0, 4000))))
    return "data-unreadable", None


def _resize(root: Path, episode: int, *, more: bool) -> None:
    path, rows = data_rows(root, episode)
    columns = read_columns(path)
    kept = np.arange(len(columns["index"]))
    kept = np.insert(kept, rows.stop, rows.stop - 1) if more else np.delete(kept, rows.stop - 2)
    write_columns(path, {name: values[kept] for name, values in columns.items()})


def data_row_missing(root: Path, rng: Rng) -> Said:
    _resize(root, episode := some_episode(rng), more=False)
    return "row-count", episode


def data_row_twice(root: Path, rng: Rng) -> Said:
    _resize(root, episode := some_episode(rng), more=True)
    return "row-count", episode


def _rewrite(root: Path, rng: Rng, change: object) -> None:
    path = file_of(root, "data", some_episode(rng))
    table = pq.read_table(path)
    pq.write_table(change(table), path)  # type: ignore[operator]


def column_missing(root: Path, rng: Rng) -> Said:
    name = str(rng.choice(["action", "observation.state", "frame_index", "task_index", "timestamp"]))
    _rewrite(root, rng, lambda table: table.drop_columns([name]))
    return "column-missing", None


def column_added(root: Path, rng: Rng) -> Said:
    _rewrite(root, rng, lambda table: table.append_column("next.reward", pa.array(rng.random(len(table)))))
    return "column-extra", None


def _replaced(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def column_of_another_dtype(root: Path, rng: Rng) -> Said:
    name = str(rng.choice(["action", "observation.state"]))

    def change(table: pa.Table) -> pa.Table:
        kind = pa.list_(pa.float64() if rng.random() < 0.5 else pa.string())
        return _replaced(
            table, name, table[name].cast(kind) if kind.value_type == pa.float64() else _texts(table[name], kind)
        )

    _rewrite(root, rng, change)
    return "column-type", None


def _texts(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    return pa.array([[str(value) for value in row] for row in column.to_pylist()], kind)


def column_of_another_width(root: Path, rng: Rng) -> Said:
    name = str(rng.choice(["action", "observation.state"]))

    def change(table: pa.Table) -> pa.Table:
        values = [row[:-1] for row in table[name].to_pylist()]
        return _replaced(table, name, pa.array(values, pa.list_(pa.float32(), len(values[0]))))

    _rewrite(root, rng, change)
    return "column-type", None


def column_with_ragged_rows(root: Path, rng: Rng) -> Said:
    def change(table: pa.Table) -> pa.Table:
        values = table["action"].to_pylist()
        row = int(rng.integers(len(values) - 1))
        values[row], values[row + 1] = values[row][:-1], values[row + 1] + [0.0]
        return _replaced(table, "action", pa.array(values, pa.list_(pa.float32())))

    _rewrite(root, rng, change)
    return "column-type", None


def column_with_nulls(root: Path, rng: Rng) -> Said:
    def change(table: pa.Table) -> pa.Table:
        values = table["action"].to_pylist()
        values[int(rng.integers(len(values)))] = None
        return _replaced(table, "action", pa.array(values, table["action"].type))

    _rewrite(root, rng, change)
    return "column-type", None


def timestamps_of_a_clock(root: Path, rng: Rng) -> Said:
    episode, offset = some_episode(rng), np.float32(rng.uniform(0.002, 50))
    edit_data(root, episode, lambda columns: columns["timestamp"].__iadd__(offset))
    return "timestamp", episode


def _nudge(root: Path, rng: Rng, name: str) -> int:
    episode = some_episode(rng)

    def change(columns: dict[str, np.ndarray]) -> None:
        begin = int(rng.integers(len(columns[name])))
        columns[name][begin:] += int(rng.integers(1, 5))

    edit_data(root, episode, change)
    return episode


def frame_index_with_a_gap(root: Path, rng: Rng) -> Said:
    return "frame-index", _nudge(root, rng, "frame_index")


def index_with_a_gap(root: Path, rng: Rng) -> Said:
    return "index", _nudge(root, rng, "index")


def episode_index_off(root: Path, rng: Rng) -> Said:
    return "episode-index", _nudge(root, rng, "episode_index")
