"""Episodes into a LeRobotDataset v3.0 directory, one atomic commit each.

Commit protocol: the episode's files are written and flushed in `.staging/`, then renamed into place (videos, data,
episodes table), directories are flushed, `tasks.parquet` and `stats.json` replaced, and `info.json` last: it is the
commit point. Each episode has its own files, so nothing that is committed is ever rewritten, and the directory is a
valid dataset after every episode. What a killed writer leaves uncommitted goes to `.quarantine/` when the next opens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kinema.core.config import to_data
from kinema.core.episode import Episode
from kinema.core.errors import DataError, SpecMismatch
from kinema.core.spec import RobotSpec, check_compatible
from kinema.data.lerobot import layout
from kinema.data.lerobot.check import check_episode
from kinema.data.lerobot.episode_stats import NAMES, FeatureStats, from_nested, merge, of_images, of_rows, to_nested
from kinema.data.lerobot.files import (
    LOCK,
    STAGING,
    locked,
    move,
    quarantine,
    reported,
    sync_directories,
    sync_file,
    write_table,
)
from kinema.data.lerobot.tables import (
    episode_table,
    frame_columns,
    frames_table,
    read_episodes,
    read_tasks,
    tasks_table,
)
from kinema.data.video import VideoCodec, encode


class DatasetWriter:
    """Creates or resumes the dataset at `root` and appends episodes to it.

    Resuming with another spec or codec is SpecMismatch; `codec` None means the dataset's own (a new one: VideoCodec()).
    `provenance` (versions, command, seeds; plain data) is kept in meta/kinema.json with the episode it begins at.
    A full or read-only disk is UnavailableError, and what was committed stays.
    """

    def __init__(
        self,
        root: Path,
        spec: RobotSpec,
        *,
        codec: VideoCodec | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        self.root, self.spec = Path(root), spec
        self._episodes, self._frames, self._unfinished = 0, 0, False
        self.fps = layout.frames_per_second(spec)
        # Noted with the first episode: opening a dataset must not change what it is.
        self._provenance: Mapping[str, Any] | None = provenance or {}
        # Names that the format cannot hold are told before anything is made.
        layout.features(spec, codec or VideoCodec())
        with reported(self.root):
            _make_root(self.root)
            with locked(self.root):
                self.codec = _open_kinema(self.root, spec, codec, provenance or {})
                self._load()

    @property
    def origins(self) -> tuple[dict[str, str | int | float], ...]:
        """The origins of the committed episodes, in order, so that a recording can go on where it stopped."""
        return tuple(dict(origin) for origin in self._origins)

    def __len__(self) -> int:
        return self._episodes

    def append(self, episode: Episode) -> int:
        """Commit one episode and return its index; raises SpecMismatch for a misfit before anything is written."""
        check_episode(episode, self.spec)
        with reported(self.root), locked(self.root):
            on_disk = layout.read_info(self.root)["total_episodes"]
            if on_disk != self._episodes:
                raise DataError(
                    f"{self.root} has {on_disk} episodes, this writer left it with {self._episodes}: "
                    f"another writer appended; open the dataset again"
                )
            if self._unfinished:
                self._load()
            self._unfinished = True
            if self._provenance is not None:
                _note_provenance(self.root, self._episodes, self._provenance)
                self._provenance = None
            self._commit(episode)
            self._unfinished = False
        return self._episodes - 1

    def _load(self) -> None:
        info = layout.read_info(self.root)
        self._episodes, self._frames = info["total_episodes"], info["total_frames"]
        rows = read_episodes(self.root, self._episodes, ("episode_index", layout.ORIGIN_COLUMN))
        self._origins = [json.loads(row[layout.ORIGIN_COLUMN]) for row in rows]
        self._tasks = list(read_tasks(self.root, info["total_tasks"]))
        quarantine(self.root, _uncommitted(self.root, self._episodes))
        self._stats = _read_stats(self.root, self._episodes, self._frames)
        self._unfinished = False

    def _commit(self, episode: Episode) -> None:
        index = self._episodes
        tasks = self._tasks if episode.instruction in self._tasks else [*self._tasks, episode.instruction]
        staged, stats = self._stage(episode, tasks.index(episode.instruction))
        chunk, file = divmod(index, layout.CHUNK_FILES)
        targets = []
        for pattern, source in staged:
            target = self.root / pattern.format(chunk_index=chunk, file_index=file)
            move(source, target)
            targets.append(target)
        staged[-1][1].parent.rmdir()
        sync_directories(self.root, targets)
        merged = {name: merge(self._stats.get(name), new) for name, new in stats.items()}
        if len(tasks) > len(self._tasks):
            write_table(tasks_table(tasks), self.root / f"{STAGING}/tasks.parquet")
            move(self.root / f"{STAGING}/tasks.parquet", self.root / layout.TASKS)
        layout.write_json(self.root / layout.STATS, to_nested(merged))
        frames = self._frames + len(episode)
        info = layout.info(self.spec, self.codec, episodes=index + 1, frames=frames, tasks=len(tasks))
        sync_directories(self.root, [self.root / layout.INFO])
        layout.write_json(self.root / layout.INFO, info)
        sync_directories(self.root, [self.root / layout.INFO])
        self._tasks, self._stats, self._frames = tasks, merged, frames
        self._origins.append(dict(episode.origin))
        self._episodes = index + 1

    def _stage(self, episode: Episode, task: int) -> tuple[list[tuple[str, Path]], dict[str, FeatureStats]]:
        """Write the episode's files to the staging folder; returns (path pattern, staged file) pairs and statistics."""
        index, start = self._episodes, self._frames
        folder = self.root / STAGING / f"ep-{index:06d}"
        folder.mkdir(parents=True)
        columns = frame_columns(
            episode, tuple(layout.widths(self.spec)), index=index, start=start, task=task, fps=self.fps
        )
        stats = {name: of_rows(values) for name, values in columns.items()}
        staged = []
        cameras = tuple(camera.key for camera in self.spec.observation.cameras)
        for key in cameras:
            feature, frames = layout.feature_key(key), episode.frames[key]
            path = folder / f"{feature}.mp4"
            encode(frames, path, self.fps, self.codec)
            sync_file(path)
            stats[feature] = of_images(frames)
            staged.append((layout.VIDEO_PATH.replace("{video_key}", feature), path))
        write_table(frames_table(columns), folder / "data.parquet")
        table = episode_table(episode, cameras, stats, index=index, start=start, fps=self.fps)
        write_table(table, folder / "episode.parquet")
        staged += [(layout.DATA_PATH, folder / "data.parquet"), (layout.EPISODES_PATH, folder / "episode.parquet")]
        return staged, stats


def _make_root(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    foreign = [path.name for path in sorted(root.iterdir()) if path.name not in ("meta", LOCK)]
    if foreign and not (root / layout.INFO).is_file():
        raise DataError(f"{root} is not a dataset ({layout.INFO} is missing) and not empty: it holds {foreign[0]!r}")
    (root / "meta").mkdir(exist_ok=True)


def _open_kinema(root: Path, spec: RobotSpec, codec: VideoCodec | None, provenance: Mapping[str, Any]) -> VideoCodec:
    """Write meta/kinema.json and an empty info.json, or check that they fit; returns the dataset's codec."""
    if not (root / layout.INFO).is_file():
        codec = codec or VideoCodec()
        layout.write_kinema(root, spec, codec, [to_data({"from_episode": 0, **provenance})])
        layout.write_json(root / layout.INFO, layout.info(spec, codec, episodes=0, frames=0, tasks=0))
        sync_directories(root, [root / layout.INFO])
        return codec
    stored = layout.read_kinema(root)
    check_compatible(stored["spec"], spec, have_name=f"the dataset {root}", want_name="what is being recorded")
    check_compatible(spec, stored["spec"], have_name="what is being recorded", want_name=f"the dataset {root}")
    if codec is not None and codec != stored["codec"]:
        raise SpecMismatch(f"the dataset {root} is compressed with {stored['codec']}, not {codec}")
    own: VideoCodec = stored["codec"]
    return own


def _note_provenance(root: Path, episodes: int, provenance: Mapping[str, Any]) -> None:
    """Add an entry for the episodes from here on when they come from elsewhere than those before."""
    stored = layout.read_kinema(root)
    entries = [dict(entry) for entry in stored["provenance"]]
    last = {name: value for name, value in entries[-1].items() if name != "from_episode"} if entries else None
    if to_data(provenance) != last:
        entry = to_data({"from_episode": episodes, **provenance})
        kept = [known for known in entries if known["from_episode"] < episodes]
        layout.write_kinema(root, stored["spec"], stored["codec"], [*kept, entry])


def _uncommitted(root: Path, episodes: int) -> list[Path]:
    """Return the episode files of this directory that no committed episode owns, and what is left in staging."""
    left = sorted((root / STAGING).glob("*"))
    left += sorted(root.glob("meta/.*.tmp"))
    for pattern in (
        "data/chunk-*/file-*.parquet",
        "meta/episodes/chunk-*/file-*.parquet",
        "videos/*/chunk-*/file-*.mp4",
    ):
        for path in sorted(root.glob(pattern)):
            numbers = path.parent.name[len("chunk-") :], path.stem[len("file-") :]
            if not all(number.isdigit() for number in numbers):
                continue
            if int(numbers[0]) * layout.CHUNK_FILES + int(numbers[1]) >= episodes:
                left.append(path)
    return left


def _read_stats(root: Path, episodes: int, frames: int) -> dict[str, FeatureStats]:
    """Return the committed statistics: stats.json, or when it is ahead of the last commit, the episodes' merged."""
    if episodes == 0:
        return {}
    if (root / layout.STATS).is_file():
        stats = from_nested(layout.read_json(root / layout.STATS))
        if stats["index"]["count"].tolist() == [frames]:
            return stats
    features = tuple(layout.read_info(root)["features"])
    columns = [f"stats/{feature}/{name}" for feature in features for name in NAMES]
    merged: dict[str, FeatureStats] = {}
    for row in read_episodes(root, episodes, ["episode_index", *columns]):
        nested = {feature: {name: row[f"stats/{feature}/{name}"] for name in NAMES} for feature in features}
        merged = {name: merge(merged.get(name), new) for name, new in from_nested(nested).items()}
    layout.write_json(root / layout.STATS, to_nested(merged))
    return merged
