"""The many small files of a recorded dataset merged into few large ones, without decoding anything.

Order of events: merged data and video files are written, flushed and put beside the old ones under new numbers; then
one rename replaces the first episodes table by one that lists every episode and points to the new files. That rename
is the switch: a reader stops at the table that completes the episodes, and never looks at the old tables behind it.
Only then the old files are deleted. A crash before the switch leaves the old dataset, one after it the new dataset, and
what belongs to neither goes to `.quarantine/` when a writer opens the dataset next.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from kinema.core.errors import DataError
from kinema.data.lerobot import layout
from kinema.data.lerobot.directory import checked_files
from kinema.data.lerobot.files import (
    STAGING,
    lock,
    move,
    quarantine,
    read_table,
    reported,
    sync_directories,
    write_table,
)
from kinema.data.lerobot.joining import join_tables, join_videos, table_kind, video_kind
from kinema.data.lerobot.recovery import leftovers, next_number, place_columns, place_prefixes, places
from kinema.data.lerobot.tables import read_episodes

EPISODES = "meta/episodes"
Row = dict[str, Any]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Compaction:
    """How many files the dataset had and has, by what they hold (`data`, `meta/episodes`, `videos/<feature>`)."""

    before: Mapping[str, int]
    after: Mapping[str, int]


def compact(root: Path, *, progress: Progress = lambda kind, done, total: None) -> Compaction:
    """Merge the files of the dataset at `root` up to the sizes in its info.json; rows and frames stay as they are.

    `progress(kind, done, total)` is told of source files that are merged. Who has the dataset open must open it again.
    Raises UnavailableError when the disk is full or a writer is at work; the dataset is then as it was.
    """
    root = Path(root)
    layout.read_info(root)
    with reported(root), lock(root):
        info = layout.read_info(root)
        known = checked_files(root, info)
        prefixes = place_prefixes(name for name, feature in info["features"].items() if feature["dtype"] == "video")
        rows = _rows(root, info, prefixes)
        old = _files(rows, prefixes)
        quarantine(root, leftovers(root, {path for paths in old.values() for path in paths}, known))
        if rows:
            _Merge(root, info, prefixes, rows, progress).run()
        new = _files(_rows(root, info, prefixes), prefixes)
        _delete([root / path for kind in old for path in old[kind] if path not in new[kind]])
    return Compaction(before=_counts(old), after=_counts(new))


def _rows(root: Path, info: Mapping[str, Any], prefixes: Mapping[str, str]) -> list[Row]:
    columns = ["episode_index", "length", *place_columns(prefixes)]
    videos = [prefix for prefix in prefixes if prefix.startswith("videos/")]
    columns += [f"{prefix}/{name}" for prefix in videos for name in ("from_timestamp", "to_timestamp")]
    return read_episodes(root, info["total_episodes"], columns)


def _files(rows: Sequence[Row], prefixes: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the files of each kind in the order of their episodes."""
    by_row = [places(row, prefixes) for row in rows]
    return {prefix: list(dict.fromkeys(row[place] for row in by_row)) for place, prefix in enumerate(prefixes)}


def _counts(files: Mapping[str, Sequence[str]]) -> dict[str, int]:
    return {kind: len(paths) for kind, paths in files.items()}


class _Merge:
    """The merged files of one dataset, written beside the old ones until `run` switches to them."""

    def __init__(
        self, root: Path, info: Mapping[str, Any], prefixes: Mapping[str, str], rows: list[Row], tell: Progress
    ) -> None:
        self.root, self.info, self.prefixes, self.rows, self.tell = root, info, prefixes, rows, tell
        self.files, self.number = _files(rows, prefixes), next_number(rows, prefixes)
        self.staging = root / STAGING / "compact"
        self.new: list[Path] = []

    def run(self) -> None:
        """Merge and switch; after an error before the switch nothing of the new is left."""
        self.staging.mkdir(parents=True)
        tables = self.files[EPISODES]
        try:
            for kind in self.prefixes:
                if kind != EPISODES:
                    self._point_to(kind, self._join(kind))
            sync_directories(self.root, self.new)
            write_table(_episodes_table(self.root, tables, self.rows), self.staging / "episodes.parquet")
        except BaseException:
            # Copies that nothing points to; after the rename below they would be the dataset.
            for path in self.new:
                with contextlib.suppress(OSError):
                    path.unlink()
            shutil.rmtree(self.staging, ignore_errors=True)
            raise
        if self.new or len(tables) > 1:
            move(self.staging / "episodes.parquet", self.root / tables[0])
            sync_directories(self.root, [self.root / tables[0]])
        shutil.rmtree(self.staging)

    def _join(self, kind: str) -> dict[str, tuple[int, int]]:
        """Return, for every file that became part of another, the other's number and at which of its rows it begins."""
        join, alike, size = (join_tables, table_kind, "data") if kind == "data" else (join_videos, video_kind, "video")
        limit, number = self.info[f"{size}_files_size_in_mb"] * 1_000_000, self.number
        joined: dict[str, tuple[int, int]] = {}
        for group in _groups(self.root, self.files[kind], limit, alike):
            # A full file stays, unless one before it has moved behind it: files stay in the order of their episodes.
            if len(group) == 1 and not joined:
                continue
            chunk, file = divmod(number, layout.CHUNK_FILES)
            target = self.root / self.prefixes[kind].format(chunk_index=chunk, file_index=file)
            counts = join([self.root / path for path in group], self.staging / "joined")
            self._check(kind, group, counts)
            self.new.append(target)
            move(self.staging / "joined", target)
            begins = itertools.accumulate(counts, initial=0)
            joined |= {path: (number, begin) for path, begin in zip(group, begins, strict=False)}
            number += 1
            self.tell(kind, len(joined), len(self.files[kind]))
        return joined

    def _check(self, kind: str, files: Sequence[str], counts: Sequence[int]) -> None:
        lengths: Counter[str] = Counter()
        for row in self.rows:
            lengths[places(row, {kind: self.prefixes[kind]})[0]] += row["length"]
        for path, count in zip(files, counts, strict=True):
            if count != lengths[path]:
                raise DataError(f"{self.root / path} holds {count} rows, its episodes have {lengths[path]}")

    def _point_to(self, kind: str, joined: Mapping[str, tuple[int, int]]) -> None:
        for row in self.rows:
            path = places(row, {kind: self.prefixes[kind]})[0]
            if path not in joined:
                continue
            number, begin = joined[path]
            row[f"{kind}/chunk_index"], row[f"{kind}/file_index"] = divmod(number, layout.CHUNK_FILES)
            if kind != "data":
                first = round(row[f"{kind}/from_timestamp"] * self.info["fps"]) + begin
                row[f"{kind}/from_timestamp"] = first / self.info["fps"]
                row[f"{kind}/to_timestamp"] = (first + row["length"]) / self.info["fps"]


def _groups(root: Path, files: Sequence[str], limit: int, alike: Callable[[Path], Any]) -> list[list[str]]:
    """Return neighbours that fit into one file of `limit` bytes and are of one kind."""
    groups: list[list[str]] = []
    size, kind = 0, None
    for path in files:
        own, own_kind = (root / path).stat().st_size, alike(root / path)
        if not groups or size + own > limit or own_kind != kind:
            groups.append([])
            size, kind = 0, own_kind
        groups[-1].append(path)
        size += own
    return groups


def _episodes_table(root: Path, files: Sequence[str], rows: list[Row]) -> pa.Table:
    """Return one table of all episodes, in place of the first of `files`, with the places that `rows` say."""
    table = pa.concat_tables([read_table(root / path) for path in files])
    table = table.filter(pc.less(table["episode_index"], len(rows))).sort_by("episode_index")
    for name in (f"{EPISODES}/chunk_index", f"{EPISODES}/file_index"):
        for row in rows[1:]:
            row[name] = rows[0][name]
    for place, field in enumerate(table.schema):
        if field.name in rows[0]:
            table = table.set_column(place, field, pa.array([row[field.name] for row in rows], field.type))
    return table


def _delete(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink()
    for folder in {path.parent for path in paths}:
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()
