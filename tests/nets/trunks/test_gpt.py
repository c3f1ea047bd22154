"""The GPT of VQ-BeT: a query closes each step, and nothing reads what comes later."""

from __future__ import annotations

import pytest
import torch

from kinema.core.errors import KinemaError
from kinema.nets.base import Group, Tokens
from kinema.nets.trunks.gpt import Gpt, GptTrunk

GROUPS = (Group(name="told", tokens=1), Group(name="seen", tokens=6, steps=3), Group(name="state", tokens=3, steps=3))
WIDTH = 8


def made(**changes: int) -> GptTrunk:
    torch.manual_seed(0)
    config = Gpt(**{"layers": 2, "heads": 2, "dropout": 0.0, **changes})  # type: ignore[arg-type]
    return config.build(GROUPS, width=WIDTH)


def test_a_query_closes_each_step() -> None:
    trunk = made()
    assert trunk.order.tolist() == [0, 1, 2, 7, 10, 3, 4, 8, 11, 5, 6, 9, 12]
    assert trunk.queries.tolist() == [4, 8, 12]


@torch.no_grad()
def test_a_step_reads_itself_and_what_came_before() -> None:
    trunk = made()
    values = torch.randn(1, 10, WIDTH, generator=torch.Generator().manual_seed(1))
    before = trunk(Tokens.present(values))
    assert before.tokens.shape == (1, 3, WIDTH) and torch.equal(before.readout["action"], before.tokens[:, -1:])
    step_of = [0, 0, 0, 1, 1, 2, 2, 0, 1, 2]
    for token, step in enumerate(step_of):
        changed = values.clone()
        changed[0, token] += 1.0
        moved = (trunk(Tokens.present(changed)).tokens - before.tokens).abs().amax((0, 2))
        assert (moved[:step] == 0).all() and (moved[step:] > 1e-6).all()


def test_places_are_rows_of_positions() -> None:
    assert made().positions.num_embeddings == 13 and made(places=20).positions.num_embeddings == 20
    with pytest.raises(KinemaError, match="places 12 at least 13"):
        made(places=12)
    with pytest.raises(KinemaError, match="layers 0 must be at least 1"):
        made(layers=0)
