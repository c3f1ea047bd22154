"""What a dataset directory holds besides its committed episodes, and what its statistics were at the last commit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kinema.core.errors import DataError
from kinema.data.lerobot import layout
from kinema.data.lerobot.episode_stats import NAMES, FeatureStats, from_nested, merge, to_nested
from kinema.data.lerobot.files import STAGING
from kinema.data.lerobot.tables import read_episodes


def place_prefixes(videos: Iterable[str]) -> dict[str, str]:
    """Return the path pattern of each kind of file by the prefix of the columns that say where it is.

    `videos` are the names of the video features, as the format has them.
    """
    patterns = {f"videos/{feature}": layout.VIDEO_PATH.replace("{video_key}", feature) for feature in videos}
    return patterns | {"data": layout.DATA_PATH, "meta/episodes": layout.EPISODES_PATH}


def place_columns(prefixes: Iterable[str]) -> list[str]:
    """Return the names of the columns that say in which file an episode's part is."""
    return [f"{prefix}/{name}" for prefix in prefixes for name in ("chunk_index", "file_index")]


def places(row: Mapping[str, Any], prefixes: Mapping[str, str]) -> list[str]:
    """Return the files, relative to the dataset, that one episode's row points to, in the order of `prefixes`."""
    return [
        pattern.format(chunk_index=row[f"{prefix}/chunk_index"], file_index=row[f"{prefix}/file_index"])
        for prefix, pattern in prefixes.items()
    ]


def next_number(rows: Iterable[Mapping[str, Any]], prefixes: Iterable[str]) -> int:
    """Return the first file number that is above all in use, counted through the chunks."""
    prefixes = tuple(prefixes)
    used = (
        row[f"{prefix}/chunk_index"] * layout.CHUNK_FILES + row[f"{prefix}/file_index"]
        for row in rows
        for prefix in prefixes
    )
    return max(used, default=-1) + 1


def uncommitted(root: Path, owned: set[str]) -> list[Path]:
    """Return the files that no committed episode points to, and what is left in staging."""
    left = sorted((root / STAGING).glob("*"))
    left += sorted(root.glob("meta/.*.tmp"))
    for pattern in (
        "data/chunk-*/file-*.parquet",
        "meta/episodes/chunk-*/file-*.parquet",
        "videos/*/chunk-*/file-*.mp4",
    ):
        left += [path for path in sorted(root.glob(pattern)) if path.relative_to(root).as_posix() not in owned]
    return left


def leftovers(root: Path, owned: set[str], known: set[Path]) -> list[Path]:
    """Return the uncommitted files; raises DataError unless the files that rows point to are those of the episodes."""
    left = uncommitted(root, owned)
    strays = ({root / path for path in owned} - known) | known.intersection(left)
    if strays:
        raise DataError(f"{root}: meta/episodes does not say rightly where {min(strays).relative_to(root)} belongs")
    return left


def committed_stats(root: Path, info: Mapping[str, Any]) -> dict[str, FeatureStats]:
    """Return the committed statistics: stats.json, or when it is ahead of the last commit, the episodes' merged."""
    if info["total_episodes"] == 0:
        return {}
    if (root / layout.STATS).is_file():
        stats = from_nested(layout.read_json(root / layout.STATS))
        if stats["index"]["count"].tolist() == [info["total_frames"]]:
            return stats
    features: Sequence[str] = tuple(info["features"])
    columns = [f"stats/{feature}/{name}" for feature in features for name in NAMES]
    merged: dict[str, FeatureStats] = {}
    for row in read_episodes(root, info["total_episodes"], ["episode_index", *columns]):
        nested = {feature: {name: row[f"stats/{feature}/{name}"] for name in NAMES} for feature in features}
        merged = {name: merge(merged.get(name), new) for name, new in from_nested(nested).items()}
    layout.write_json(root / layout.STATS, to_nested(merged))
    return merged
