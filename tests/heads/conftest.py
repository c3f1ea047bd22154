"""What tests of heads share: the Fork and the training of one head alone on it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinema.core.rng import generator
from kinema.heads.base import HeadConfig
from kinema.nets.base import Context, Group, Tokens
from kinema.nets.language.sizes import Decoder
from kinema.nets.trunks.language_model import LanguageModel
from kinema.sim.fork import Fork

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


@pytest.fixture(scope="session")
def speaking() -> Callable[..., Any]:
    """`speaking(config, fork, steps=)` returns a head that goes on with its trunk, both trained alone on the fork."""
    return Speaking


class Speaking:
    """Two layers of a language model that has read two words, the same for every entry."""

    def __init__(self, config: HeadConfig, fork: Fork, *, steps: int, batch: int = 64) -> None:
        torch.manual_seed(0)
        size = Decoder(
            family="llama", layers=2, width=48, hidden=96, heads=4, kv_heads=2, head_width=12, vocabulary=280
        )
        self.trunk = LanguageModel(size=size).build([Group(name="prompt", tokens=2)], width=48)
        self.head = config.build(action_width=2, pred_horizon=fork.horizon, width=48)
        both = [*self.trunk.parameters(), *self.head.parameters()]
        optimiser = torch.optim.Adam(both, lr=3e-3)
        decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, steps)
        rng = generator("speaking", steps)
        mask = torch.ones(batch, fork.horizon, dtype=torch.bool)
        for _ in range(steps):
            chunks = torch.from_numpy(fork.chunks(batch, rng))
            loss = self.head.loss(self.context(batch), chunks, mask, rng=torch.Generator()).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            decay.step()

    def context(self, batch: int) -> Context:
        ids = torch.tensor([3, 4]).expand(batch, 2)
        return self.trunk(Tokens(torch.zeros(batch, 2, 48), torch.ones(batch, 2, dtype=torch.bool), ids=ids))

    def sample(self, count: int) -> np.ndarray:
        with torch.no_grad():
            return self.head.sample(self.context(count), rng=torch.Generator().manual_seed(5)).numpy()
