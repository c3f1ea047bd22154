"""With a generator for each sample, what a head loses on a sample does not depend on which others are in the batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kinema.core.names import members
from kinema.nets.base import Context

BATCH, HORIZON, ACTIONS, WIDTH = 4, 5, 2, 32
APART = {"energy", "vq-bet", "cvae", "text-tokens", "parallel-slots"}
"""The first two weigh a sample by others of the batch; the rest need more of a trunk than its tokens."""


@pytest.mark.parametrize("name", [name for name in members("head") if name not in APART])
def test_the_loss_of_a_sample_is_its_own(name: str, configure: Any) -> None:
    torch.manual_seed(0)
    head = configure("head", name).build(action_width=ACTIONS, pred_horizon=HORIZON, width=WIDTH).eval()
    action, mask = torch.rand(BATCH, HORIZON, ACTIONS) * 2 - 1, torch.rand(BATCH, HORIZON) < 0.8
    tokens, readout = torch.randn(BATCH, 3, WIDTH), torch.randn(BATCH, 1, WIDTH)

    def loss(which: slice) -> torch.Tensor:
        rng = [torch.Generator().manual_seed(place) for place in range(BATCH)[which]]
        present = torch.ones(len(rng), 3, dtype=torch.bool)
        own = torch.zeros(len(rng), dtype=torch.int64)
        context = Context(tokens=tokens[which], mask=present, readout={"action": readout[which]}, embodiment=own)
        return head.loss(context, action[which], mask[which], rng=rng)

    whole = loss(slice(None))
    torch.testing.assert_close(torch.cat([loss(slice(0, 1)), loss(slice(1, 4))]), whole, atol=1e-5, rtol=1e-4)
