"""The datasets that `--data` names, and what a run says about them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kinema.cli.suites import split_names
from kinema.core.errors import KinemaError


def open_datasets(data: Path) -> tuple[Any, ...]:
    """Return the datasets at `data`: one directory, or several separated by commas."""
    from kinema.data.lerobot.reader import open_dataset

    several = "," in str(data) and not data.exists()
    roots = [Path(name) for name in split_names(str(data), "--data")] if several else [data]
    found = tuple(open_dataset(root) for root in roots)
    hashes = [dataset.content_hash for dataset in found]
    for place, known in enumerate(hashes):
        if known in hashes[:place]:
            first = roots[hashes.index(known)]
            raise KinemaError(f"{first} and {roots[place]} hold the same data\nfix: give it once, with a larger weight")
    return found


def content_hash(datasets: Sequence[Any]) -> str:
    """Return the content hash of a dataset, or one that depends on those of several and on their order."""
    hashes = [dataset.content_hash for dataset in datasets]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def facts(datasets: Sequence[Any], prepared: Any) -> dict[str, Any]:
    """Return what run.json says of the data; episodes are numbered through all datasets in their order."""
    made: dict[str, Any] = {
        "path": ",".join(str(dataset.root.absolute()) for dataset in datasets),
        "content_hash": content_hash(datasets),
        "episodes": sum(len(dataset.episodes) for dataset in datasets),
        "frames": sum(len(dataset) for dataset in datasets),
        "held_out_episodes": list(prepared.held_out_episodes),
    }
    if prepared.excluded_episodes:
        made["excluded_episodes"] = list(prepared.excluded_episodes)
    if len(datasets) > 1:
        made["parts"] = [
            {
                "path": str(dataset.root.absolute()),
                "content_hash": dataset.content_hash,
                "episodes": len(dataset.episodes),
                "frames": len(dataset),
                "share": share,
            }
            for dataset, share in zip(datasets, prepared.share, strict=True)
        ]
    return made | {"origins": [dict(episode.origin) for dataset in datasets for episode in dataset.episodes]}


def lines(datasets: Sequence[Any], prepared: Any) -> list[str]:
    """Return one line on each dataset, for a dry run."""
    shares = [f", share {share:.4f}" for share in prepared.share] if len(datasets) > 1 else [""]
    return [
        f"data: {len(dataset.episodes)} episodes, {len(dataset)} frames, hash {dataset.content_hash[:12]}{share}"
        for dataset, share in zip(datasets, shares, strict=True)
    ]
