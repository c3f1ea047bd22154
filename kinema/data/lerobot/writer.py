"""Episodes into a LeRobotDataset v3.0 directory, one atomic commit each.

Commit protocol: the episode's files are written and flushed in `.staging/`, then renamed into place (videos, data,
episodes table), directories are flushed, `tasks.parquet` and `stats.json` replaced, and `info.json` last: it is the
commit point. Each episode has its own files, so nothing that is committed is ever rewritten, and the directory is a
valid dataset after every episode. What a killed writer leaves uncommitted goes to `.quarantine/` when the next opens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kinema.core.episode import Episode
from kinema.core.errors import DataError, SpecMismatch
from kinema.core.spec import RobotSpec
from kinema.data.edit.place import MARK, recover
from kinema.data.lerobot import directory, layout
from kinema.data.lerobot.check import check_episode, check_timing_keys
from kinema.data.lerobot.draft import Draft
from kinema.data.lerobot.episode_stats import FeatureStats, merge, of_images, of_rows, to_nested
from kinema.data.lerobot.files import STAGING, lock, move, quarantine, reported, sync_directories, write_table
from kinema.data.lerobot.recovery import (
    committed_stats,
    next_number,
    place_columns,
    place_prefixes,
    places,
    uncommitted,
)
from kinema.data.lerobot.tables import (
    episode_table,
    frame_columns,
    frames_table,
    read_episodes,
    read_tasks,
    tasks_table,
)
from kinema.data.video import VideoCodec


class DatasetWriter:
    """Creates or resumes the dataset at `root` and appends episodes to it.

    `captured` and `valid` name the keys (`image.<camera>`, `vector.<name>`, `action`) whose capture times and validity
    every episode brings; like the spec and the codec they are fixed when the dataset is made. Resuming with others is
    SpecMismatch; None means the dataset's own (a new one: none, VideoCodec()).
    `provenance` (versions, command, seeds; plain data) is kept in meta/kinema.json with the episode it begins at.
    A full or read-only disk is UnavailableError, and what was committed stays.
    """

    def __init__(
        self,
        root: Path,
        spec: RobotSpec,
        *,
        codec: VideoCodec | None = None,
        captured: Sequence[str] | None = None,
        valid: Sequence[str] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        self.root, self.spec = Path(root), spec
        self._episodes, self._frames, self._number, self._unfinished = 0, 0, 0, False
        self.fps = layout.frames_per_second(spec)
        self._prefixes = place_prefixes(layout.feature_key(camera.key) for camera in spec.observation.cameras)
        # Noted with the first episode: opening a dataset must not change what it is.
        self._provenance: Mapping[str, Any] | None = provenance or {}
        # Names that the format cannot hold are told before anything is made.
        timing = (tuple(captured or ()), tuple(valid or ()))
        check_timing_keys(spec, *timing)
        layout.features(spec, codec or VideoCodec(), *timing)
        with reported(self.root):
            if not self.root.is_dir() or (self.root / MARK).is_file():
                recover(self.root.resolve())
            directory.make_root(self.root)
            with lock(self.root):
                if not (self.root / layout.INFO).is_file():
                    directory.create(self.root, spec, codec or VideoCodec(), timing, provenance or {})
                self._load(codec, captured, valid)

    @property
    def origins(self) -> tuple[dict[str, str | int | float], ...]:
        """The origins of the committed episodes, in order, so that a recording can go on where it stopped."""
        return tuple(dict(origin) for origin in self._origins)

    def __len__(self) -> int:
        return self._episodes

    def append(self, episode: Episode) -> int:
        """Commit one episode and return its index; raises SpecMismatch for a misfit before anything is written.

        Its images may be an `ImageStream` each, of which one at a time is in memory.
        """
        check_episode(episode, self.spec, self.captured, self.valid)
        draft = self.begin()
        try:
            for key, video in draft.videos.items():
                for image in episode.frames[key]:
                    video.write(image)
            return self._finish(draft, episode)
        except BaseException as error:
            self.abort(draft, f"{type(error).__name__}: {error}")
            raise

    def begin(self) -> Draft:
        """Return a new draft, whose videos take frames as they come; until its end no one else writes.

        Raises UnavailableError while another writer is at work, DataError when one has been since this one opened.
        """
        with reported(self.root):
            held = lock(self.root)
            try:
                if self._unfinished:
                    self._load(self.codec, self.captured, self.valid)
                if directory.fingerprint(self.root) != self._left:
                    raise DataError(
                        f"{self.root} was edited or compacted, or another writer appended; open the dataset again"
                    )
                folder = self.root / STAGING / f"ep-{self._episodes:06d}"
                self._unfinished = True
                folder.mkdir(parents=True)
                draft = Draft(folder, held, self.spec, self.codec)
                self._unfinished = False
                return draft
            except BaseException:
                held.close()
                raise

    def commit(self, draft: Draft, rows: Episode) -> int:
        """Commit a draft with the rest of its episode and return its index.

        `rows` has every frame but the images, which the draft's videos have, as many as rows. After an error the
        draft is aborted.
        """
        observation = self.spec.observation
        images = tuple(camera.key for camera in observation.cameras)
        blind = observation.select(tuple(key for key in observation.keys if key not in images))
        try:
            check_episode(rows, replace(self.spec, observation=blind), self.captured, self.valid)
            for key, video in draft.videos.items():
                if len(video) != len(rows):
                    raise SpecMismatch(f"{key} has {len(video)} frames, the episode {len(rows)} rows")
            return self._finish(draft, rows)
        except BaseException as error:
            self.abort(draft, f"{type(error).__name__}: {error}")
            raise

    def abort(self, draft: Draft, reason: str) -> None:
        """Move a draft's files to `.quarantine/` with the reason beside them, at once or when the disk allows it."""
        draft.give_up()
        try:
            quarantine(self.root, [draft.folder] if draft.folder.exists() else [], reason)
        except OSError:
            self._unfinished = True
        finally:
            draft.release()

    def _load(self, codec: VideoCodec | None, captured: Sequence[str] | None, valid: Sequence[str] | None) -> None:
        self.codec = directory.own_codec(self.root, self.spec, codec)
        self.captured, self.valid = directory.own_timing(self.root, captured, valid)
        info = layout.read_info(self.root)
        self._episodes, self._frames = info["total_episodes"], info["total_frames"]
        columns = ("episode_index", layout.ORIGIN_COLUMN, *place_columns(self._prefixes))
        rows = read_episodes(self.root, self._episodes, columns)
        self._origins = [json.loads(row[layout.ORIGIN_COLUMN]) for row in rows]
        self._number = next_number(rows, self._prefixes)
        self._tasks = dict.fromkeys(read_tasks(self.root, info["total_tasks"]))
        owned = {path for row in rows for path in places(row, self._prefixes)}
        quarantine(self.root, uncommitted(self.root, owned))
        self._stats = committed_stats(self.root, info)
        self._left, self._unfinished = directory.fingerprint(self.root), False

    def _finish(self, draft: Draft, episode: Episode) -> int:
        with reported(self.root):
            self._unfinished = True
            if self._provenance is not None:
                directory.note_provenance(self.root, self._episodes, self._provenance)
                self._provenance = None
            self._commit(draft, episode)
            self._left, self._unfinished = directory.fingerprint(self.root), False
        draft.release()
        return self._episodes - 1

    def _commit(self, draft: Draft, episode: Episode) -> None:
        tasks = self._tasks | {episode.instruction: None}
        staged, stats = self._stage(draft, episode, tuple(tasks).index(episode.instruction))
        chunk, file = divmod(self._number, layout.CHUNK_FILES)
        targets = {
            self.root / pattern.format(chunk_index=chunk, file_index=file): source for pattern, source in staged.items()
        }
        for target in targets:
            if target.exists():
                raise DataError(f"{target} is there already: another writer was at work; open the dataset again")
        for target, source in targets.items():
            move(source, target)
        draft.folder.rmdir()
        sync_directories(self.root, list(targets))
        merged = {name: merge(self._stats.get(name), new) for name, new in stats.items()}
        if len(tasks) > len(self._tasks):
            write_table(tasks_table(tuple(tasks)), self.root / f"{STAGING}/tasks.parquet")
            move(self.root / f"{STAGING}/tasks.parquet", self.root / layout.TASKS)
        layout.write_json(self.root / layout.STATS, to_nested(merged))
        frames, episodes = self._frames + len(episode), self._episodes + 1
        counts = {"episodes": episodes, "frames": frames, "tasks": len(tasks)}
        sync_directories(self.root, [self.root / layout.INFO])
        directory.publish(self.root, layout.info(self.spec, self.codec, self.captured, self.valid, **counts))
        self._tasks, self._stats, self._frames, self._episodes = tasks, merged, frames, episodes
        self._origins.append(dict(episode.origin))
        self._number += 1

    def _stage(self, draft: Draft, episode: Episode, task: int) -> tuple[dict[str, Path], dict[str, FeatureStats]]:
        """Complete the draft's files; returns the staged file by path pattern, and the statistics."""
        index, start = self._episodes, self._frames
        columns = frame_columns(
            episode, tuple(layout.widths(self.spec)), index=index, start=start, task=task, fps=self.fps
        )
        stats = {name: of_rows(values) for name, values in columns.items()}
        paths = []
        for key, video in draft.videos.items():
            video.finish()
            images = episode.frames.get(key)  # not there, or an `ImageStream`, when only the video has them all
            stats[layout.feature_key(key)] = of_images(images) if isinstance(images, np.ndarray) else video.stats()
            paths.append(video.path)
        paths += [draft.folder / "data.parquet", draft.folder / "episode.parquet"]
        write_table(frames_table(columns), paths[-2])
        table = episode_table(
            episode, tuple(draft.videos), stats, index=index, start=start, number=self._number, fps=self.fps
        )
        write_table(table, paths[-1])
        return dict(zip(self._prefixes.values(), paths, strict=True)), stats
