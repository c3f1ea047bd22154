"""The clean datasets and the catalogue of corruptions are modules beside this file, shared with the benchmark."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if str(Path(__file__).parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).parent))

from clean_datasets import write_clean


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Clean datasets by seed: an even seed has one file an episode, an odd one all episodes in one file."""
    folder = tmp_path_factory.mktemp("clean")
    return {seed: write_clean(folder / str(seed), seed) for seed in range(4)}
