"""LeRobotDataset v2.0, v2.1 and v3.0 directories, whoever wrote them, as one uniform and checked view.

v2.0 and v2.1 have a data file and a video file per episode, and their tables as lines of JSON; v3.0 has files of many
episodes, and its tables in parquet. Statistics are one for all (v2.0), one per episode (v2.1) or both (v3.0).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinema.core.errors import DataError
from kinema.data.lerobot import layout
from kinema.data.lerobot.records import (
    TABLES,
    Row,
    check_rows,
    json_lines,
    new_rows,
    new_tasks,
    old_rows,
    old_tasks,
)
from kinema.data.lerobot.templates import Templates

VERSIONS = ("v2.0", "v2.1", "v3.0")
_FORBIDDEN = re.compile(r"[/\\\x00-\x1f]")
_VIDEO = re.compile(r"\w[^:]*")
"""Names that are part of a path: at its start or end, `.` or nothing could make a template mean another place."""


@dataclass(frozen=True, kw_only=True)
class View:
    """A dataset directory of any version; `features` as in info.json, `files` all that belongs to its episodes."""

    root: Path
    version: str
    fps: float
    robot_type: str | None
    features: Mapping[str, Mapping[str, Any]]
    episodes: tuple[Row, ...]
    tasks: tuple[str, ...]
    files: tuple[Path, ...]

    @property
    def cameras(self) -> tuple[str, ...]:
        """The features that are videos or images."""
        return tuple(name for name, feature in self.features.items() if feature["dtype"] in ("video", "image"))


def read_view(root: Path) -> View:
    """Return the dataset at `root`; raises DataError naming what is missing, does not add up or leads out of it."""
    info = _info(root)
    path, version = root / layout.INFO, info["codebase_version"]
    features = _features(path, info)
    videos = tuple(name for name, feature in features.items() if feature["dtype"] == "video")
    if info["total_episodes"] == 0:
        raise DataError(f"{root} has 0 episodes: nothing was recorded yet")
    old = version != "v3.0"
    templates = Templates(root, info, old, bool(videos))
    rows, tables = old_rows(root, templates, videos) if old else new_rows(root, info, templates, videos)
    check_rows(root, info, rows)
    tasks = old_tasks(root / TABLES[1]) if old else new_tasks(root / layout.TASKS)
    # A stopped writer may have added tasks that no committed episode has.
    if len(tasks) < info["total_tasks"] or (old and len(tasks) != info["total_tasks"]):
        raise DataError(f"{root}: {layout.INFO} counts {info['total_tasks']} tasks, the table lists {len(tasks)}")
    optional = {root / name for name in (layout.STATS, layout.KINEMA, TABLES[2]) if (root / name).is_file()}
    files = {path, *tables, *optional, *(row.data for row in rows)}
    files |= {file for row in rows for file, _ in row.videos.values()}
    return View(
        root=root,
        version=version,
        fps=info["fps"],
        robot_type=info.get("robot_type"),
        features=features,
        episodes=tuple(rows),
        tasks=tasks[: info["total_tasks"]],
        files=tuple(sorted(files | {root / (TABLES[1] if old else layout.TASKS)})),
    )


def stored_stats(view: View) -> tuple[Mapping[str, Mapping[str, Any]], ...]:
    """Return the statistics that the dataset itself stores: one for all, or in v2.1 one per episode; () if none."""
    if view.version != "v2.1":
        return (layout.read_json(view.root / layout.STATS),) if (view.root / layout.STATS).is_file() else ()
    lines = json_lines(view.root / TABLES[2]) if (view.root / TABLES[2]).is_file() else []
    return tuple(line.get("stats", {}) for line in sorted(lines, key=lambda line: line.get("episode_index", -1)))


def image_shape(name: str, feature: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return (Hi, Wi, channels) of a camera's feature, which may be listed in another order."""
    shape, names = tuple(feature["shape"]), feature.get("names")
    if len(shape) == 3:
        first = names[0] if isinstance(names, list) and len(names) == 3 else None
        channels_first = str(first).startswith("channel") if first else shape[2] not in (1, 3, 4) and shape[0] in (1, 3)
        return (shape[1], shape[2], shape[0]) if channels_first else (shape[0], shape[1], shape[2])
    raise DataError(f"feature {name!r}: shape {shape}, expected height, width and channels")


def _info(root: Path) -> dict[str, Any]:
    if not root.is_dir():
        raise DataError(f"{root} is not a dataset: no such directory")
    path = root / layout.INFO
    if not path.is_file():
        raise DataError(f"{root} is not a dataset: {layout.INFO} is missing")
    info = layout.read_json(path)
    version = info.get("codebase_version")
    if version not in VERSIONS:
        newer = isinstance(version, str) and bool(re.fullmatch(r"v\d+\.\d+", version)) and version > VERSIONS[-1]
        more = "; it is from the future: a newer kinema may read it" if newer else ""
        raise DataError(f"{path}: codebase_version {version!r}, expected one of {', '.join(VERSIONS)}{more}")
    for name in ("total_episodes", "total_frames", "total_tasks"):
        if not isinstance(info.get(name), int) or isinstance(info[name], bool) or info[name] < 0:
            raise DataError(f"{path}: {name} is {info.get(name)!r}, expected a whole number")
    fps = info.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, (int, float)) or not 0 < fps < 1e6:
        raise DataError(f"{path}: fps is {fps!r:.40}, expected frames per second")
    return info


def _features(path: Path, info: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    features = info.get("features")
    if not isinstance(features, dict):
        raise DataError(f"{path}: features is a {type(features).__name__}, expected an object")
    for name, feature in features.items():
        if _FORBIDDEN.search(name) or ".." in name:
            raise DataError(f"{path}: the feature name {name!r} could leave the directory")
        shape = feature.get("shape") if isinstance(feature, dict) else None
        if not (isinstance(shape, list) and all(type(side) is int and 0 < side < 2**31 for side in shape)):
            raise DataError(f"{path}: feature {name!r} has the shape {shape!r}, expected a list of whole numbers")
        if not isinstance(feature.get("dtype"), str):
            raise DataError(f"{path}: feature {name!r} has the dtype {feature.get('dtype')!r}, expected a name")
        if feature["dtype"] == "video" and not _VIDEO.fullmatch(name):
            raise DataError(f"{path}: the feature name {name!r} could leave the directory")
    for name in layout.DEFAULT_FEATURES:
        if name not in features:
            raise DataError(f"{path}: there is no feature {name!r}, which every dataset has")
    return features
