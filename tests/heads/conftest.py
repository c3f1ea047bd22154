"""What tests of heads share: the Fork and the training of one head alone on it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
if str(BENCHMARKS) not in sys.path:
    sys.path.insert(0, str(BENCHMARKS))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def fit() -> Callable[..., Any]:
    """`fit(config, fork, steps=, seed=, width=64)` returns the head trained alone on the fork: see fork_fit."""
    import fork_fit

    return fork_fit.fit
