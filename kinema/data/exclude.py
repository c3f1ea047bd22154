"""Lists of episodes that training leaves out, as `kinema data score` writes them.

Such as `{"dataset": "<content hash, or empty>", "episodes": [3, 7], "reasons": {"3": ["idle 0.62 above 0.5"]}}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kinema.core.errors import DataError, nearest
from kinema.data.lerobot.layout import read_json
from kinema.data.lerobot.reader import Dataset

_ENTRIES = ("dataset", "episodes", "reasons")


def excluded_episodes(files: Sequence[Path], datasets: Sequence[Dataset]) -> list[frozenset[int]]:
    """Return for each dataset the episodes that the lists in `files` leave out.

    A list names its dataset by content hash, so that it cannot meet other data by mistake; without a name it is for the
    only dataset. Raises DataError for a list of none of the datasets, or with an episode that does not exist.
    """
    found: list[frozenset[int]] = [frozenset()] * len(datasets)
    for path in files:
        content = _read(path)
        place = _place(path, content.get("dataset", ""), datasets)
        total = len(datasets[place].episodes)
        for episode in content["episodes"]:
            if not 0 <= episode < total:
                raise DataError(f"{path}: no episode {episode}; {datasets[place].root} has episodes 0 to {total - 1}")
        found[place] |= frozenset(content["episodes"])
        if len(found[place]) == total:
            raise DataError(f"{path}: nothing is left of {datasets[place].root}, all {total} episodes are excluded")
    return found


def _place(path: Path, wanted: str, datasets: Sequence[Dataset]) -> int:
    """Return which of the datasets the list is for."""
    if not wanted:
        if len(datasets) > 1:
            raise DataError(f"{path} names no dataset, and there are {len(datasets)}: set its entry 'dataset'")
        return 0
    hashes = [dataset.content_hash for dataset in datasets]
    if wanted not in hashes:
        have = ", ".join(f"{dataset.root.name} is {dataset.content_hash[:12]}" for dataset in datasets)
        raise DataError(f"{path} is for the dataset {wanted[:12]}, but {have:.300}\nfix: score this dataset again")
    return hashes.index(wanted)


def _read(path: Path) -> Mapping[str, Any]:
    content = read_json(path)
    for name in content:
        if name not in _ENTRIES:
            raise DataError(f"{path}: unknown entry {name!r}{nearest(name, _ENTRIES)}")
    episodes, reasons = content.get("episodes"), content.get("reasons", {})
    if not isinstance(episodes, list) or not all(type(episode) is int for episode in episodes):
        raise DataError(f"{path}: 'episodes' is {episodes!r:.80}, expected a list of episode numbers")
    if len(set(episodes)) != len(episodes):
        raise DataError(f"{path}: an episode is listed twice")
    if not isinstance(content.get("dataset", ""), str):
        raise DataError(f"{path}: 'dataset' is {content['dataset']!r:.80}, expected a content hash or an empty text")
    if not isinstance(reasons, dict) or set(reasons) - {str(episode) for episode in episodes}:
        raise DataError(f"{path}: 'reasons' is not a mapping from episodes of the list to why")
    return content
