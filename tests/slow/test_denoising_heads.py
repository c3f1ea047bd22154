"""What one step, ten and a hundred keep of the Fork: `pytest -m slow tests/slow/test_denoising_heads.py`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kinema.heads.base import HeadConfig
from kinema.heads.consistency import Consistency
from kinema.heads.diffusion import Diffusion
from kinema.heads.flow import Flow
from kinema.heads.rectified import Rectified
from kinema.nets.denoisers.mlp import Mlp
from kinema.nets.ode import straightness
from kinema.sim.fork import Fork, Modes

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from fork_fit import Fitted, fit

FORK = Fork(horizon=4)
NET = Mlp(hidden=64, blocks=2)
FLOW = Flow(denoiser=NET, draws=1)


def judged(fitted: Fitted, config: HeadConfig, weights: dict[str, Any]) -> Modes:
    """Return what a head of `config` with these `weights` keeps."""
    head = config.build(action_width=2, pred_horizon=FORK.horizon, width=64)
    head.load_state_dict(weights)
    fitted.alone.head = head.eval()
    return FORK.judge(fitted.sample(1000, 1))


@pytest.mark.slow
def test_ten_steps_are_nearly_as_good_as_a_hundred() -> None:
    """Invalid: 0.0 % in a hundred steps of DDPM, 1.5 % in ten of DPM-Solver++, 4.0 % in ten of DDIM (2.6 % of 6000)."""
    config = Diffusion(denoiser=NET, draws=1, clip=1.0)
    fitted = fit(config, FORK, steps=3000, seed=0)
    weights = fitted.alone.head.state_dict()
    ddpm = judged(fitted, replace(config, sampler="ddpm", steps=100), weights)
    solver = judged(fitted, replace(config, sampler="dpm_solver++"), weights)
    ddim = judged(fitted, config, weights)
    assert all(modes.cover > 0.4 and modes.invalid < 0.05 for modes in (ddpm, solver, ddim)), (ddpm, solver, ddim)
    assert solver.invalid - ddpm.invalid < 0.02


def one_step_is_enough(fitted: Fitted) -> None:
    """The student needs one step, where its teacher needs ten and fails with one."""
    student = FORK.judge(fitted.sample(1000, 1))
    weights: dict[str, Any] = fitted.alone.head.teacher.state_dict()
    assert student.cover > 0.35 and student.invalid < 0.1, student
    teacher = judged(fitted, FLOW, weights)
    assert teacher.cover > 0.4 and teacher.invalid < 0.05, teacher
    assert judged(fitted, replace(FLOW, steps=1), weights).invalid > 0.9


@pytest.mark.slow
def test_consistency() -> None:
    one_step_is_enough(fit(Consistency(teacher=FLOW, denoiser=NET, draws=1), FORK, steps=3000, seed=0))


@pytest.mark.slow
def test_rectified() -> None:
    fitted = fit(Rectified(teacher=FLOW, denoiser=NET), FORK, steps=4000, seed=0)
    head, context = fitted.alone.head, fitted.alone.context(1000)
    noise = head.teacher.noise(context, rng=torch.Generator().manual_seed(3))
    with torch.no_grad():
        bent = straightness(lambda x, t: head.teacher.velocity(x, t, context), noise, steps=20).mean()
        straight = straightness(lambda x, t: head.velocity(x, t, context), noise, steps=20).mean()
        ends = head.teacher.carry(noise, context), noise + head.velocity(noise, torch.zeros(1000), context)
    assert straight < 0.3 * bent, (straight, bent)
    sides = [end[..., 1].mean(1).sign() for end in ends]
    assert (sides[0] == sides[1]).float().mean() > 0.95, "the same noise leads to the same side"
    one_step_is_enough(fitted)
