"""Train one action head alone on the Fork: its context is a constant that learns along with it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from kinema.core.rng import generator, seed_of
from kinema.heads.base import ConditionsTrunk, Head, HeadConfig
from kinema.nets.base import Context
from kinema.nets.denoisers.base import Denoiser
from kinema.nets.noise import Rng
from kinema.sim.fork import Fork

LEARNING_RATE, WARMUP, TOKENS = 1e-3, 50, 2
AT_ONCE = 100
"""Chunks drawn in one call: heads that search keep hundreds of candidates for each."""


class Alone(nn.Module):
    """A head and what a trunk would hand to it: one readout and two tokens, the same for every entry."""

    def __init__(self, config: HeadConfig, fork: Fork, width: int) -> None:
        super().__init__()
        self.fork, self.width = fork, width
        self.head: Head = config.build(action_width=2, pred_horizon=fork.horizon, width=width)
        self.readout = nn.Parameter(torch.randn(1, 1, width))
        self.tokens = nn.Parameter(torch.randn(1, TOKENS, width))

    def context(self, count: int, own: Tensor | None = None, posterior: Tensor | None = None) -> Context:
        """Return the context of `count` entries, with the tokens that the head gives its trunk before the others."""
        tokens = self.tokens.expand(count, -1, -1)
        tokens = tokens if own is None else torch.cat([own, tokens], dim=1)
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool)
        readout = self.readout.expand(count, -1, -1)
        which = torch.zeros(count, dtype=torch.int64)
        return Context(tokens=tokens, mask=mask, readout={"action": readout}, posterior=posterior, embodiment=which)

    def loss(self, chunks: Tensor, rng: torch.Generator) -> Tensor:
        """Return the mean loss of `chunks` (B, H, 2)."""
        mask = torch.ones(chunks.shape[:2], dtype=torch.bool)
        given: tuple[Tensor, ...] = ()
        if isinstance(self.head, ConditionsTrunk):
            given = self.head.condition(None, chunks, mask, rng=rng)
        return self.head.loss(self.context(len(chunks), *given), chunks, mask, rng=rng).mean()

    def sample(self, count: int, rng: Rng) -> Tensor:
        """Return `count` chunks (N, H, 2)."""
        own = self.head.prior(count, rng=rng) if isinstance(self.head, ConditionsTrunk) else None
        return self.head.sample(self.context(count, own), rng=rng)


@dataclass(frozen=True)
class Fitted:
    """A trained head."""

    alone: Alone
    losses: tuple[float, ...]

    @property
    def parameters(self) -> int:
        """How many numbers the head learns; the constant context does not count."""
        return sum(parameter.numel() for parameter in self.alone.head.parameters() if parameter.requires_grad)

    def acting_as(self, config: HeadConfig) -> Fitted:
        """Return the head of `config` with these weights; one that has others is a RuntimeError."""
        alone = Alone(config, self.alone.fork, self.alone.width)
        alone.load_state_dict(self.alone.state_dict())
        return Fitted(alone.eval(), self.losses)

    @cached_property
    def sample_ms(self) -> float:
        """Median time to draw one chunk [ms], of 20 draws after three to warm up."""
        times = []
        for seed in range(23):
            before = time.perf_counter()
            self.sample(1, seed)
            times.append(1e3 * (time.perf_counter() - before))
        return float(np.median(times[3:]))

    @cached_property
    def calls(self) -> int:
        """How often a denoiser is called to draw one chunk, whatever the weights; 0 for heads without one."""
        counted: list[str] = []
        denoisers = [part for part in self.alone.head.modules() if isinstance(part, Denoiser)]
        hooks = [part.register_forward_hook(lambda *_: counted.append("call")) for part in denoisers]
        self.sample(1, 0)
        for hook in hooks:
            hook.remove()
        return len(counted)

    def sample(self, count: int, seed: int) -> np.ndarray:
        """Return `count` chunks (N, H, 2) drawn with `seed`."""
        rng = torch.Generator().manual_seed(seed_of("fork sample", seed))
        with torch.no_grad():
            drawn = [self.alone.sample(min(AT_ONCE, count - done), rng) for done in range(0, count, AT_ONCE)]
        return torch.cat(drawn).numpy()


def untrained(head: HeadConfig, fork: Fork, *, width: int = 64) -> Fitted:
    """Return `head` as it begins, for what does not depend on what was learnt."""
    return Fitted(Alone(head, fork, width).eval(), ())


def fit(head: HeadConfig, fork: Fork, *, steps: int, seed: int, width: int = 64, batch: int = 256) -> Fitted:
    """Return `head` trained for `steps` batches of fresh chunks: Adam at 1e-3, warmed up, then cosine to zero."""
    torch.manual_seed(seed_of("fork weights", seed))
    alone = Alone(head, fork, width).train()
    optimiser = torch.optim.Adam(alone.parameters(), lr=LEARNING_RATE)
    decay = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / WARMUP) * 0.5 * (1.0 + math.cos(math.pi * step / steps))
    )
    data, noise = generator("fork data", seed), torch.Generator().manual_seed(seed_of("fork noise", seed))
    losses = []
    for _ in range(steps):
        loss = alone.loss(torch.from_numpy(fork.chunks(batch, data)), noise)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
        losses.append(loss.item())
    return Fitted(alone.eval(), tuple(losses))
