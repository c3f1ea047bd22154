"""How much of each dataset a mixture draws, and which windows make up the batch of each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from kinema.core.errors import KinemaError, nearest, unknown
from kinema.core.rng import generator, seed_of
from kinema.data.oxe import MAGIC_SOUP
from kinema.data.shuffle import Epochs

NAMED_WEIGHTS: Mapping[str, Mapping[str, float]] = {"oxe-magic-soup": MAGIC_SOUP}
"""Published weights by dataset name; all of them multiply the numbers of frames."""
WEIGHTS_MEAN = ("multiply", "replace")


def shares(
    frames: Sequence[int],
    *,
    names: Sequence[str] = (),
    alpha: float | None = None,
    weights: Sequence[float] | str | None = None,
    weights_mean: str | None = None,
) -> np.ndarray:
    """Return the share of the samples that comes from each dataset, (P,) float64 with sum 1.

    With `alpha` proportional to frames^alpha: 1 is by frames (also when nothing is said), 0 the same for each, 0.43 as
    in pi0 (Black et al. 2024); a temperature T is alpha = 1/T. With `weights`, `weights_mean` must say whether they
    "multiply" the numbers of frames (as in Octo and OpenVLA) or "replace" them: the conventions differ by orders of
    magnitude. Weights may also be the name of published ones (`NAMED_WEIGHTS`), looked up by the datasets' `names`.
    """
    if isinstance(weights, str):
        weights, weights_mean = named_weights(weights, names, weights_mean), "multiply"
    counts = np.asarray(frames, np.float64)
    if not len(counts) or counts.min() < 1:
        raise KinemaError(f"frames of the datasets {list(frames)!r:.80}: expected at least 1 of each")
    if weights is None:
        if weights_mean is not None:
            raise KinemaError(f"weights_mean {weights_mean!r}, but there are no weights")
        power = 1.0 if alpha is None else alpha
        if not 0.0 <= power <= 1.0:
            raise KinemaError(f"alpha {power}: expected 0 (the same of each) to 1 (by frames)")
        parts = counts**power
    else:
        parts = _weighed(counts, np.asarray(weights, np.float64), weights_mean, alpha)
    return parts / parts.sum()


def _weighed(counts: np.ndarray, weights: np.ndarray, mean: str | None, alpha: float | None) -> np.ndarray:
    if alpha is not None:
        raise KinemaError("alpha and weights are two ways to say the same: give one of them")
    if mean is None:
        raise KinemaError(
            "weights: say whether they multiply the numbers of frames (as Octo's and OpenVLA's do) or replace them\n"
            "fix: weights_mean multiply, or weights_mean replace"
        )
    if mean not in WEIGHTS_MEAN:
        raise unknown("meaning of weights", mean, WEIGHTS_MEAN)
    if weights.shape != counts.shape or not np.isfinite(weights).all() or weights.min() <= 0:
        raise KinemaError(
            f"weights {weights.tolist()!r:.120}: expected {len(counts)} above 0, one a dataset (leave out what gets 0)"
        )
    return weights * counts if mean == "multiply" else weights


def named_weights(name: str, datasets: Sequence[str], mean: str | None = None) -> tuple[float, ...]:
    """Return the published weights called `name` of the datasets with these names; they multiply frames."""
    if name not in NAMED_WEIGHTS:
        raise unknown("weights", name, NAMED_WEIGHTS)
    if mean not in (None, "multiply"):
        raise KinemaError(f"weights {name} multiply the numbers of frames, they do not {mean} them")
    table = NAMED_WEIGHTS[name]
    for dataset in datasets:
        if dataset not in table:
            raise KinemaError(f"{name} has no dataset {dataset!r}{nearest(dataset, table)}; it has {len(table)}")
    return tuple(table[dataset] for dataset in datasets)


def counts(share: np.ndarray, draws: int) -> np.ndarray:
    """Return how many of the first `draws` samples come from each dataset, (P,) int64 with sum `draws`.

    The datasets are halved again and again, and each half gets its rounded share of what its whole got, so rounding
    errors are carried instead of lost: a count is never further from share * draws than half a sample a halving, it
    never falls, and shares that are whole numbers of a batch are the same in every batch.
    """
    ends = np.concatenate([[0.0], np.cumsum(share)])
    found = np.zeros(len(share), np.int64)

    def split(first: int, last: int, count: int) -> None:
        if last - first == 1:
            found[first] = count
            return
        middle = (first + last) // 2
        left = int(np.floor(count * (ends[middle] - ends[first]) / (ends[last] - ends[first]) + 0.5))
        split(first, middle, left)
        split(middle, last, count - left)

    split(0, len(share), draws)
    return found


class SharedDraws:
    """The windows of each step's batch, as a function of (seed, step) alone, numbered through all datasets in order.

    Every dataset has its own endless epochs, so that within one every window is seen equally often. `counts` says how
    far each has come, so nothing needs to be remembered.
    """

    def __init__(self, sizes: Sequence[int], share: np.ndarray, *, batch_size: int, seed: int) -> None:
        if len(sizes) != len(share):
            raise KinemaError(f"{len(sizes)} datasets, but {len(share)} shares")
        self.share, self.batch_size, self.seed = share, batch_size, seed
        self._first = np.concatenate([[0], np.cumsum(sizes)])
        self._epochs = [
            Epochs(size, batch_size=batch_size, seed=seed_of("mixture", seed, part)) for part, size in enumerate(sizes)
        ]

    def __call__(self, step: int) -> np.ndarray:
        """Return the window indices (batch_size,) of step `step`, the datasets in random order."""
        if step < 0:
            raise KinemaError(f"step {step}: expected 0 or more")
        begin, end = (counts(self.share, number * self.batch_size) for number in (step, step + 1))
        parts = np.flatnonzero(end > begin)
        taken = [self._first[part] + self._epochs[part].take(begin[part], end[part]) for part in parts]
        return generator("mixture order", self.seed, step).permutation(np.concatenate(taken))
