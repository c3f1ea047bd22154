"""Exact statistics of a dataset's vectors and actions, for normalisation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kinema.core.transform import Statistics
from kinema.data.lerobot.episode_stats import of_rows
from kinema.data.lerobot.layout import widths
from kinema.data.lerobot.reader import Dataset
from kinema.data.windows import check_episodes


def statistics(dataset: Dataset, episodes: Sequence[int] | None = None) -> Statistics:
    """Return mean, std, min, max, q01, q10, q50, q90, q99 (D,) and count (1,) per vector and action, all float64.

    Over all rows of the chosen episodes (all when None); std is the population's, quantiles interpolate linearly.
    A constant component has std 0; what to do about that is the normaliser's decision.
    """
    records = [dataset.episodes[index] for index in check_episodes(dataset, episodes)]
    rows = np.concatenate([np.arange(record.start, record.start + record.length) for record in records])
    table = {key: of_rows(dataset.column(key)[rows]) for key in widths(dataset.spec)}
    return {key: {name: value.astype(np.float64) for name, value in entry.items()} for key, entry in table.items()}
