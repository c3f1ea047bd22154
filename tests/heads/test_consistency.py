"""Consistency distillation: the identity at the end of the path, a teacher left alone, and one step that is enough."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kinema.core.errors import KinemaError
from kinema.heads.base import HeadConfig
from kinema.heads.consistency import Consistency, ConsistencyHead
from kinema.heads.diffusion import Diffusion
from kinema.heads.flow import Flow
from kinema.heads.regression import Regression
from kinema.nets.base import Context
from kinema.nets.denoisers.mlp import Mlp
from kinema.nets.denoisers.transformer import Transformer

WIDTH = 8
SMALL = Mlp(hidden=16, blocks=1)
TEACHERS = [
    Flow(denoiser=SMALL, steps=5),
    Flow(denoiser=SMALL, steps=5, integrator="heun"),
    Diffusion(denoiser=SMALL, steps=5),
    Diffusion(denoiser=SMALL, steps=5, prediction="epsilon", clip=1.0, sampler="ddpm"),
]


def context_of(batch: int) -> Context:
    readout = torch.ones(batch, 1, WIDTH)
    return Context(tokens=readout, mask=torch.ones(batch, 1, dtype=torch.bool), readout={"action": readout})


def head_of(teacher: HeadConfig, horizon: int = 3, actions: int = 2) -> ConsistencyHead:
    torch.manual_seed(0)
    config = Consistency(teacher=teacher, denoiser=SMALL, draws=2)
    return config.build(action_width=actions, pred_horizon=horizon, width=WIDTH)


def noise(batch: int, seed: int = 2) -> Tensor:
    return torch.randn(batch, 3, 2, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("teacher", TEACHERS, ids=lambda t: type(t).__name__)
def test_at_the_end_of_the_path_it_is_the_identity(teacher: HeadConfig) -> None:
    head = head_of(teacher)
    end = torch.full((4,), head.teacher.levels)
    assert (head.consistent(noise(4), end, context_of(4)) - noise(4)).abs().max() < 1e-6
    assert (head.consistent(noise(4), end - 1, context_of(4)) - noise(4)).abs().max() > 1e-3
    assert torch.equal(head.teacher.corrupted(noise(4, 3), noise(4), end), noise(4, 3))


@pytest.mark.parametrize("teacher", TEACHERS[:3], ids=lambda t: type(t).__name__)
def test_levels_lead_along_the_samples_of_the_teacher(teacher: HeadConfig) -> None:
    """Level by level, each entry from its own, is the path that `sample` takes."""
    head = head_of(teacher)
    start = head.teacher.sample(context_of(4), rng=torch.Generator().manual_seed(2)), noise(4)
    x = start[1]
    for level in range(head.teacher.levels):
        x = head.teacher.advanced(x, torch.full((4,), level), context_of(4))
    assert (x - start[0]).abs().max() < 1e-5


@pytest.mark.parametrize("teacher", TEACHERS, ids=lambda t: type(t).__name__)
def test_the_teacher_learns_as_if_it_were_alone(teacher: HeadConfig) -> None:
    head = head_of(teacher)
    action, mask = noise(6, 4), torch.ones(6, 3, dtype=torch.bool)
    grads = []
    for module in (head, head.teacher):
        context = context_of(6)
        context.readout["action"].requires_grad_()
        head.zero_grad()
        module.loss(context, action, mask, rng=torch.Generator().manual_seed(5)).sum().backward()
        grads.append([context.readout["action"].grad, *[p.grad for p in head.teacher.parameters()]])
    assert all(torch.equal(both, alone) for both, alone in zip(*grads, strict=True))
    assert all(p.grad is not None for p in head.student.parameters()) is False, "alone, the student has no gradient"


def test_a_student_that_knows_the_way_has_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Straight paths: with the teacher's velocity u for every x, f(x) = x + (1 - t) u is consistent everywhere."""
    head = head_of(Flow(denoiser=SMALL, steps=4))
    constant = noise(1, 7)
    for net in (head.teacher.net.denoiser, head.student):
        monkeypatch.setattr(net, "forward", lambda x, t, context: constant.expand_as(x))
    action, mask = noise(6, 4), torch.ones(6, 3, dtype=torch.bool)
    taught = head.teacher.loss(context_of(6), action, mask, rng=torch.Generator().manual_seed(5))
    both = head.loss(context_of(6), action, mask, rng=torch.Generator().manual_seed(5))
    assert torch.allclose(both, taught, atol=1e-8)


def test_one_step_of_the_student_is_all_steps_of_the_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the exact field of data N(0, 0.5^2) five Euler steps multiply the noise by 0.3692, one step by 0."""
    teacher = Flow(denoiser=SMALL, steps=5)
    head = head_of(teacher, horizon=1, actions=1)

    def exact(x: Tensor, t: Tensor, context: Context) -> Tensor:
        t = t[:, None, None]
        return x * (t * 0.25 - (1 - t)) / (t**2 * 0.25 + (1 - t) ** 2)

    monkeypatch.setattr(head.teacher, "velocity", exact)
    optimiser = torch.optim.Adam(head.student.parameters(), lr=1e-2)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 300)
    rng, mask = torch.Generator().manual_seed(3), torch.ones(64, 1, dtype=torch.bool)
    for _ in range(300):
        optimiser.zero_grad()
        head.loss(context_of(64), 0.5 * torch.randn(64, 1, 1, generator=rng), mask, rng=rng).mean().backward()
        optimiser.step()
        decay.step()
    start = torch.linspace(-2, 2, 9)[:, None, None]
    level = torch.zeros(9, dtype=torch.int64)
    with torch.no_grad():
        one = head.consistent(start, level, context_of(9))
    assert (one - 0.3692 * start).square().mean().sqrt() < 0.06
    assert (start + exact(start, torch.zeros(9), context_of(9))).abs().max() < 1e-6, "one step of the teacher"


def test_what_cannot_teach_is_refused() -> None:
    with pytest.raises(KinemaError, match="a teacher carries noise to actions, which Regression does not"):
        head_of(Regression())
    with pytest.raises(KinemaError, match="draws 0 must be at least 1"):
        Consistency(draws=0).build(action_width=2, pred_horizon=3, width=WIDTH)


def test_dropout_would_make_random_targets() -> None:
    dropping = Transformer(layers=1, heads=2, hidden=8, dropout=0.1)
    for name, config in (
        ("teacher", Consistency(teacher=Flow(denoiser=dropping))),
        ("student", Consistency(denoiser=dropping)),
    ):
        with pytest.raises(KinemaError, match=rf"consistency: the {name} has a dropout of 0\.1"):
            config.build(action_width=2, pred_horizon=3, width=WIDTH)
