"""Rectified flow: a teacher left alone, the same coupling on straighter paths, and one step that is enough."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kinema.core.errors import KinemaError
from kinema.heads.flow import Flow
from kinema.heads.rectified import Rectified, RectifiedHead
from kinema.nets.base import Context
from kinema.nets.denoisers.mlp import Mlp
from kinema.nets.denoisers.transformer import Transformer
from kinema.nets.ode import straightness

WIDTH = 8
SMALL = Mlp(hidden=16, blocks=1)


def context_of(batch: int) -> Context:
    readout = torch.ones(batch, 1, WIDTH)
    return Context(tokens=readout, mask=torch.ones(batch, 1, dtype=torch.bool), readout={"action": readout})


def head_of(config: Rectified, horizon: int = 3, actions: int = 2) -> RectifiedHead:
    torch.manual_seed(0)
    return config.build(action_width=actions, pred_horizon=horizon, width=WIDTH)


def test_the_teacher_learns_as_if_it_were_alone() -> None:
    head = head_of(Rectified(teacher=Flow(denoiser=SMALL, steps=3), denoiser=SMALL))
    action = torch.randn(6, 3, 2, generator=torch.Generator().manual_seed(4))
    mask = torch.ones(6, 3, dtype=torch.bool)
    grads = []
    for module in (head, head.teacher):
        context = context_of(6)
        context.readout["action"].requires_grad_()
        head.zero_grad()
        module.loss(context, action, mask, rng=torch.Generator().manual_seed(5)).sum().backward()
        grads.append([context.readout["action"].grad, *[p.grad for p in head.teacher.parameters()]])
    assert all(torch.equal(both, alone) for both, alone in zip(*grads, strict=True))


@pytest.mark.parametrize(("at_noise", "share"), [(0.0, 0.0), (0.25, 0.25), (1.0, 1.0)])
def test_the_asked_share_of_times_is_at_noise_and_the_rest_uniform(
    at_noise: float, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = head_of(Rectified(teacher=Flow(denoiser=SMALL, steps=1), denoiser=SMALL, at_noise=at_noise, draws=500))
    seen: list[Tensor] = []

    def recorded(x: Tensor, t: Tensor, context: Context) -> Tensor:
        seen.append(t)
        return x

    monkeypatch.setattr(head.student, "forward", recorded)
    head.loss(context_of(8), torch.zeros(8, 3, 2), torch.ones(8, 3, dtype=torch.bool), rng=torch.Generator())
    [t] = seen
    assert (t == 0).float().mean().item() == pytest.approx(share, abs=0.03) and t.max() <= 1
    if share < 1:
        assert t[t > 0].mean().item() == pytest.approx(0.5, abs=0.03)


def test_reflow_straightens_the_paths_and_one_step_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the exact field of data N(0, 0.5^2) five Euler steps multiply the noise by 0.3692: so must one."""
    head = head_of(Rectified(teacher=Flow(denoiser=SMALL, steps=5), denoiser=SMALL), horizon=1, actions=1)

    def exact(x: Tensor, t: Tensor, context: Context) -> Tensor:
        t = t[:, None, None]
        return x * (t * 0.25 - (1 - t)) / (t**2 * 0.25 + (1 - t) ** 2)

    monkeypatch.setattr(head.teacher, "velocity", exact)
    optimiser = torch.optim.Adam(head.student.parameters(), lr=1e-2)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 300)
    rng, mask = torch.Generator().manual_seed(3), torch.ones(64, 1, dtype=torch.bool)
    for _ in range(300):
        optimiser.zero_grad()
        head.loss(context_of(64), torch.zeros(64, 1, 1), mask, rng=rng).mean().backward()
        optimiser.step()
        decay.step()
    start, context = torch.linspace(-2, 2, 9)[:, None, None], context_of(9)
    with torch.no_grad():
        one = start + head.velocity(start, torch.zeros(9), context)
        bent = straightness(lambda x, t: exact(x, t, context), start, steps=20).mean()
        straight = straightness(lambda x, t: head.velocity(x, t, context), start, steps=20).mean()
    assert (one - 0.3692 * start).square().mean().sqrt() < 0.06, "the same noise leads to the same action"
    assert straight < 0.1 * bent
    assert (start + exact(start, torch.zeros(9), context)).abs().max() < 1e-6, "one step of the teacher"


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(KinemaError, match=r"steps 0 and draws 4 must be at least 1, at_noise 0.5 in \[0, 1\]"):
        head_of(Rectified(steps=0))
    with pytest.raises(KinemaError, match=r"at_noise 1\.5"):
        head_of(Rectified(at_noise=1.5))


def test_a_teacher_with_dropout_would_make_random_targets() -> None:
    dropping = Transformer(layers=1, heads=2, hidden=8, dropout=0.1)
    with pytest.raises(KinemaError, match=r"rectified: the teacher has a dropout of 0\.1"):
        head_of(Rectified(teacher=Flow(denoiser=dropping)))
    head_of(Rectified(teacher=Flow(denoiser=SMALL), denoiser=dropping))
