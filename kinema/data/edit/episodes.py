"""Episodes as people write them: `3,7-9`, `all`, `train=0.8,test=0.2`, `train=0-39,test=40-49`."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from kinema.core.errors import KinemaError
from kinema.core.rng import generator
from kinema.data.lerobot.reader import Dataset

_FRACTION = re.compile(r"0?\.\d+|1\.0*")


def parse_episodes(text: str, total: int) -> tuple[int, ...]:
    """Return the indices that `text` names of `total` episodes; ranges include both ends."""
    if text == "all":
        return tuple(range(total))
    chosen: list[int] = []
    for word in text.split(","):
        ends = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", word)
        if ends is None:
            raise KinemaError(f"episodes {text!r}: {word!r} is neither a number nor a range such as 7-9")
        first = int(ends[1])
        last = first if ends[2] is None else int(ends[2])
        if not first <= last < total:
            raise KinemaError(
                f"episodes {text!r}: {word.strip()!r} is not within 0-{total - 1}, the dataset's episodes"
            )
        chosen += range(first, last + 1)
    if len(set(chosen)) != len(chosen):
        raise KinemaError(f"episodes {text!r}: an episode is named twice")
    return tuple(chosen)


def parse_parts(text: str, dataset: Dataset, seed: int | None) -> dict[str, tuple[int, ...]]:
    """Return the episodes of each named part; `seed` (None: 0) decides who goes where when the parts are fractions.

    Parts given as episodes take no seed.
    """
    names: dict[str, str] = {}
    for word in re.split(r",(?=\s*[^\s,=]+=)", text):
        name, equals, value = (piece.strip() for piece in word.partition("="))
        if not (name and equals and value) or name in names:
            raise KinemaError(f"parts {text!r}: expected different names with values, such as train=0.8,test=0.2")
        names[name] = value
    shares = [_FRACTION.fullmatch(value) is not None for value in names.values()]
    if all(shares):
        return dict(zip(names, fractions(dataset, [float(value) for value in names.values()], seed or 0), strict=True))
    if any(shares):
        raise KinemaError(f"parts {text!r}: all fractions, or all episodes")
    if seed is not None:
        raise KinemaError(f"parts {text!r}: a seed is of use with fractions only, these are episodes")
    parts = {name: parse_episodes(value, len(dataset.episodes)) for name, value in names.items()}
    taken: dict[int, str] = {}
    for name, chosen in parts.items():
        for index in chosen:
            if index in taken:
                raise KinemaError(f"parts {text!r}: episode {index} is in {taken[index]!r} and in {name!r}")
            taken[index] = name
    return parts


def fractions(dataset: Dataset, shares: Sequence[float], seed: int) -> list[tuple[int, ...]]:
    """Return disjoint, sorted episode indices, one tuple per share; each task is spread over them in proportion.

    The shares are positive and add up to at most 1; a part that would be empty is KinemaError.
    """
    if not all(share > 0 for share in shares) or sum(shares) > 1 + 1e-9:
        raise KinemaError(f"fractions {list(shares)}: expected positive numbers that add up to at most 1")
    tasks: dict[str, list[int]] = {}
    for record in dataset.episodes:
        tasks.setdefault(record.instruction, []).append(record.index)
    placed = []
    for task, members in tasks.items():
        rng = generator("fractions", seed, task)
        order = rng.permutation(len(members))
        placed += [((rank + rng.random()) / len(members), members[at]) for rank, at in enumerate(order)]
    ordered = [index for _, index in sorted(placed)]
    ends = [round(float(end) * len(ordered)) for end in np.cumsum(shares)]
    parts = [tuple(sorted(ordered[a:b])) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    for share, part in zip(shares, parts, strict=True):
        if not part:
            raise KinemaError(f"fraction {share} of {len(ordered)} episodes is none")
    return parts
