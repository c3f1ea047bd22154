"""What the importers' tests share: pictures that show any turn, and the whole path into a dataset."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from kinema.data.cards import Card
from kinema.data.importers.base import Source, episodes, spec_of
from kinema.data.lerobot.reader import Dataset, open_dataset
from kinema.data.lerobot.writer import DatasetWriter

GOLDENS = Path(__file__).resolve().parents[2] / "goldens"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, GOLDENS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def goldens() -> Path:
    return GOLDENS


@pytest.fixture(scope="session")
def golden_script() -> Callable[[str], ModuleType]:
    """`golden_script(name)` returns the module that made a golden, for the arrays that it wrote."""
    return script


@pytest.fixture(scope="session")
def pictures() -> Callable[[int, int], np.ndarray]:
    """`pictures(steps, seed)` returns (steps, 24, 32, 3) uint8."""
    function: Callable[[int, int], np.ndarray] = script("make_zarr").pictures
    return function


@pytest.fixture
def imported(tmp_path: Path) -> Callable[[Source, Card], Dataset]:
    """`imported(source, card)` returns the dataset that the source becomes, through its writer and reader."""

    def through(source: Source, card: Card) -> Dataset:
        root = tmp_path / "imported"
        writer: DatasetWriter | None = None
        for episode in episodes(source, card):
            if writer is None:
                timing = {"captured": tuple(episode.captured_ns), "valid": tuple(episode.valid)}
                writer = DatasetWriter(root, spec_of(source, card), **timing)
            writer.append(episode)
        return open_dataset(root)

    return through
