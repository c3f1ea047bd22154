"""Guidance is two predictions in one batch, its training drops the asked share, and repeating keeps rows together."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kinema.core.errors import KinemaError
from kinema.nets.base import Context
from kinema.nets.conditioning import Conditional, Guidance, detached, repeated
from kinema.nets.denoisers.base import Denoiser
from kinema.nets.denoisers.mlp import Mlp

WIDTH = 3


class Recorder(Denoiser):
    """Predicts the chunk plus the sum of all that it is told, and keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Context] = []

    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        self.seen.append(context)
        told = context.readout["action"].sum((1, 2)) + context.tokens.sum((1, 2)) + t
        return x + told[:, None, None]


def context_of(batch: int) -> Context:
    rng = torch.Generator().manual_seed(1)
    tokens = torch.randn(batch, 2, WIDTH, generator=rng)
    return Context(
        tokens, torch.ones(batch, 2, dtype=torch.bool), {"action": torch.randn(batch, 1, WIDTH, generator=rng)}
    )


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0])
def test_guided_is_the_formula_from_one_call(scale: float) -> None:
    net = Conditional(Recorder(), Guidance(dropout=0.2, scale=scale), width=WIDTH).eval()
    with torch.no_grad():
        net.nothing.copy_(torch.tensor([0.1, 0.2, 0.4]))
    x, t = torch.randn(4, 2, 1, generator=torch.Generator().manual_seed(2)), torch.tensor([0.0, 0.25, 0.5, 1.0])
    guided = net.guided(x, t, context_of(4))
    assert len(net.denoiser.seen) == 1, "one batch"
    given = context_of(4)
    conditional = given.readout["action"].sum((1, 2)) + given.tokens.sum((1, 2))
    free = torch.full((4,), 3 * 0.7)  # one readout and two tokens, each the learnt vector
    expected = x + (free + scale * (conditional - free) + t)[:, None, None]
    assert torch.allclose(guided, expected, atol=1e-5)


def test_training_drops_the_share_and_acting_drops_none() -> None:
    net = Conditional(Recorder(), Guidance(dropout=0.3), width=WIDTH)
    x, t, context = torch.zeros(2000, 1, 1), torch.zeros(2000), context_of(2000)
    net(x, t, context, rng=torch.Generator().manual_seed(3))
    gone = (net.denoiser.seen[-1].tokens == 0).all((1, 2))
    assert gone.float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert torch.equal(gone, (net.denoiser.seen[-1].readout["action"] == 0).all((1, 2))), (
        "all of the context or nothing"
    )
    net.eval()(x, t, context, rng=torch.Generator().manual_seed(3))
    assert net.denoiser.seen[-1] is context


def test_the_stand_in_for_the_context_is_learnt() -> None:
    torch.manual_seed(0)
    denoiser = Mlp(hidden=8, blocks=1).build(action_width=1, pred_horizon=2, width=WIDTH)
    net = Conditional(denoiser, Guidance(dropout=0.5), width=WIDTH)
    net(torch.ones(16, 2, 1), torch.zeros(16), context_of(16), rng=torch.Generator().manual_seed(1)).sum().backward()
    assert net.nothing is not None and net.nothing.grad is not None and (net.nothing.grad.abs() > 0).all()


def test_without_guidance_there_is_nothing_to_learn_and_nothing_drawn() -> None:
    net = Conditional(Recorder(), Guidance(), width=WIDTH)
    assert list(net.parameters()) == []
    rng, untouched = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    net(torch.zeros(2, 1, 1), torch.zeros(2), context_of(2), rng=rng)
    assert torch.equal(rng.get_state(), untouched.get_state())


def test_repeated_and_detached() -> None:
    context = context_of(2)
    context.tokens.requires_grad_()
    twice = repeated(context, 3)
    assert torch.equal(twice.tokens[:3], context.tokens[:1].expand(3, -1, -1)) and len(twice.mask) == 6
    assert torch.equal(twice.readout["action"][3:], context.readout["action"][1:].expand(3, -1, -1))
    assert twice.tokens.requires_grad and not detached(context).tokens.requires_grad
    learnt = {name: torch.zeros(2, WIDTH, requires_grad=True) for name in ("positions", "posterior")}
    alone = detached(replace(context, **learnt))
    assert alone.positions is not None and not alone.positions.requires_grad
    assert alone.posterior is not None and not alone.posterior.requires_grad


@pytest.mark.parametrize(
    ("dropout", "scale", "message"),
    [
        (1.0, 1.0, r"dropout 1.0 is not in \[0, 1\)"),
        (0.1, -1.0, r"scale -1.0 not in \[0, 20\]"),
        (0.1, 21.0, r"scale 21.0 not in \[0, 20\]"),
        (0.1, float("nan"), "scale nan not in"),
        (0.0, 2.0, "a prediction without context, which is never trained; give a dropout above 0"),
    ],
)
def test_guidance_outside_its_range_is_refused(dropout: float, scale: float, message: str) -> None:
    with pytest.raises(KinemaError, match=message):
        Guidance(dropout=dropout, scale=scale)
