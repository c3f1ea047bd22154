"""A plan into a directory: one data file, episodes file and video of each camera per episode, as the writer does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kinema.core.episode import Episode
from kinema.core.errors import DataError
from kinema.data.edit.clip import cut, link, sync_file
from kinema.data.edit.plan import Part, Plan
from kinema.data.lerobot import layout
from kinema.data.lerobot.episode_stats import NAMES, FeatureStats, from_nested, merge, of_images, of_rows, to_nested
from kinema.data.lerobot.files import sync_directories, write_table
from kinema.data.lerobot.reader import Dataset
from kinema.data.lerobot.tables import episode_table, frame_columns, frames_table, read_episodes, tasks_table
from kinema.data.video import encode

Progress = Callable[[int, int], None]
"""Told (episodes written, episodes in all)."""


def write(plan: Plan, root: Path, progress: Progress | None = None) -> None:
    """Write the planned dataset into the empty directory `root` and flush it to disk."""
    sources = {id(part.dataset): _Source(part.dataset, plan) for part in plan.parts}
    fps = layout.frames_per_second(plan.spec)
    cameras = [camera.key for camera in plan.spec.observation.cameras]
    tasks: dict[str, int] = {}
    merged: dict[str, FeatureStats] = {}
    frames = 0
    for index, part in enumerate(plan.parts):
        source = sources[id(part.dataset)]
        episode = source.episode(part)
        task = tasks.setdefault(part.instruction, len(tasks))
        keys = tuple(layout.widths(plan.spec))
        columns = frame_columns(episode, keys, index=index, start=frames, task=task, fps=fps)
        stats = {name: of_rows(values) for name, values in columns.items()}
        for key in cameras:
            stats[layout.feature_key(key)] = source.video(part, key, _path(root, layout.VIDEO_PATH, index, key))
        write_table(frames_table(columns), _path(root, layout.DATA_PATH, index))
        table = episode_table(episode, cameras, stats, index=index, start=frames, number=index, fps=fps)
        write_table(table, _path(root, layout.EPISODES_PATH, index))
        merged = {name: merge(merged.get(name), new) for name, new in stats.items()}
        frames += len(episode)
        if progress is not None:
            progress(index + 1, len(plan.parts))
    write_table(tasks_table(list(tasks)), _made(root / layout.TASKS))
    layout.write_json(root / layout.STATS, to_nested(merged))
    layout.write_kinema(root, plan.spec, plan.codec, _provenance(plan))
    timing = (tuple(episode.captured_ns), tuple(episode.valid))
    info = layout.info(plan.spec, plan.codec, *timing, episodes=len(plan.parts), frames=frames, tasks=len(tasks))
    layout.write_json(root / layout.INFO, info)
    sync_directories(root, [path for path in root.rglob("*") if path.is_file()])


class _Source:
    """One source dataset as the plan's episodes read it."""

    def __init__(self, dataset: Dataset, plan: Plan) -> None:
        self.dataset, self.plan, self.fps = dataset, plan, layout.frames_per_second(plan.spec)
        keys = layout.timing_keys(layout.read_info(dataset.root))
        times = {key: dataset.captured_ns(key) for key in keys[0]}
        self.captured_ns = {key: values for key, values in times.items() if values is not None}
        self.valid = {key: dataset.valid(key) for key in keys[1]}
        self.old = {camera.key: plan.keys[camera.key] for camera in plan.spec.observation.cameras}
        columns = [f"stats/{layout.feature_key(key)}/{name}" for key in self.old.values() for name in NAMES]
        self.stats = read_episodes(dataset.root, len(dataset.episodes), ("episode_index", *columns))
        self.videos = {
            (key, row): (file.path, first, len(parts) == 1 and first == 0)
            for key in self.old.values()
            for file, parts in dataset.videos(key)[1].items()
            for first, row, _ in parts
        }
        """(sample key, first row of an episode) -> video, first frame in it, whether it is the episode's own."""

    def episode(self, part: Part) -> Episode:
        """Return the episode with the plan's vectors and action; its images stay in their videos."""
        record = part.record
        rows = slice(record.start, record.start + record.length)
        tasks = np.unique(self.dataset.task_index[rows])
        if len(tasks) > 1:
            raise DataError(f"{self.dataset.root}: episode {record.index} changes its task; such cannot be edited yet")
        keys = self.plan.keys.items()
        frames = {new: self.dataset.column(key)[rows] for new, key in keys if not new.startswith("image.")}
        frames |= {new: make(self.dataset, record) for new, make in self.plan.added.items()}
        return Episode(
            instruction=part.instruction,
            frames=frames,
            success=record.success,
            origin=record.origin,
            captured_ns={new: self.captured_ns[key][rows] for new, key in keys if key in self.captured_ns},
            valid={new: self.valid[key][rows] for new, key in keys if key in self.valid},
        )

    def video(self, part: Part, key: str, target: Path) -> FeatureStats:
        """Write the episode's frames of camera `key` to `target`; returns their statistics."""
        old, start, length = self.old[key], part.record.start, part.record.length
        if self.plan.codec != self.dataset.codec:
            frames = self.dataset.frames(old).read(np.arange(start, start + length))
            encode(frames, target, self.fps, self.plan.codec)
            sync_file(target)
            return of_images(frames)
        path, first, own = self.videos[old, start]
        if own:
            link(path, target)
        else:
            cut(path, target, first=first, length=length, fps=self.fps)
        feature, row = layout.feature_key(old), self.stats[part.index]
        return from_nested({old: {name: row[f"stats/{feature}/{name}"] for name in NAMES}})[old]


def _provenance(plan: Plan) -> list[Mapping[str, Any]]:
    """Return what the sources say of the episodes' making, renumbered, with this edit added to each entry."""
    entries: list[Mapping[str, Any]] = []
    last: tuple[int, int] | None = None
    for index, part in enumerate(plan.parts):
        known = part.dataset.provenance
        at = max((n for n, entry in enumerate(known) if entry["from_episode"] <= part.index), default=-1)
        if last == (id(part.dataset), at):
            continue
        last = (id(part.dataset), at)
        before = dict(known[at]) if at >= 0 else {}
        edit = {"operation": plan.operation, "source": part.dataset.content_hash}
        edits = [*before.pop("edits", []), edit]
        entries.append({**before, "from_episode": index, "edits": edits})
    return entries


def _path(root: Path, pattern: str, index: int, key: str = "") -> Path:
    chunk, file = divmod(index, layout.CHUNK_FILES)
    names = {"video_key": layout.feature_key(key)} if key else {}
    return _made(root / pattern.format(chunk_index=chunk, file_index=file, **names))


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
