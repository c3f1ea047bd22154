"""Real-time chunking trained into the flow, to the end."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from kinema.core.policy import Guide
from kinema.core.rng import generator
from kinema.heads.flow import Flow
from kinema.nets.denoisers.mlp import Mlp
from kinema.sim.fork import Fork

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from fork_fit import fit


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_held_prefix_keeps_the_side(seed: int) -> None:
    fork, held = Fork(), 4
    fitted = fit(Flow(denoiser=Mlp(hidden=128, blocks=2), prefix=held, draws=1), fork, steps=1000, seed=seed)
    old = torch.from_numpy(fork.chunks(512, generator("old", seed)))
    for first, most in ((held, 0.02), (0, 1.0)):
        guide = Guide(action=old, weight=(torch.arange(fork.horizon) < first).float(), method="inpaint")
        with torch.no_grad():
            new = fitted.alone.head.sample_guided(
                fitted.alone.context(512), guide, rng=torch.Generator().manual_seed(seed)
            )
        assert torch.equal(new[:, :first], old[:, :first])
        sides = [np.sign(chunk[:, held:, 1].mean(1)) for chunk in (old.numpy(), new.numpy())]
        flipped = float((sides[0] != sides[1]).mean())
        assert flipped <= most and (first or flipped > 0.4)
