"""Loss and sample of the denoising heads are one graph each: nothing in them depends on values or goes over the batch.

The generator is the one thing that `torch.compile` cannot take; here the noise comes from torch's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from kinema.heads.base import HeadConfig
from kinema.heads.consistency import Consistency
from kinema.heads.diffusion import Diffusion
from kinema.heads.flow import Flow
from kinema.heads.rectified import Rectified
from kinema.nets import noise
from kinema.nets.base import Context
from kinema.nets.conditioning import Guidance
from kinema.nets.denoisers.mlp import Mlp
from kinema.nets.denoisers.transformer import Transformer
from kinema.nets.denoisers.unet1d import Unet1d
from kinema.nets.noise import Rng

SMALL = Mlp(hidden=8, blocks=1)
GUIDED = Guidance(dropout=0.2, scale=2.0)
HEADS = {
    "flow": Flow(denoiser=SMALL, steps=3, guidance=GUIDED),
    "flow on a unet": Flow(denoiser=Unet1d(channels=(8, 16), time_width=8), steps=2, integrator="heun"),
    "flow on a transformer": Flow(denoiser=Transformer(layers=1, heads=2, hidden=8), steps=2, integrator="midpoint"),
    "diffusion": Diffusion(denoiser=SMALL, steps=2, spacing="trailing", clip=1.0),
    "ddpm": Diffusion(denoiser=SMALL, steps=4, prediction="epsilon", clip=1.0, sampler="ddpm"),
    "dpm_solver++": Diffusion(denoiser=SMALL, steps=4, prediction="v", sampler="dpm_solver++", guidance=GUIDED),
    "consistency": Consistency(teacher=Diffusion(denoiser=SMALL, steps=4), denoiser=SMALL),
    "rectified": Rectified(teacher=Flow(denoiser=SMALL, steps=3), denoiser=SMALL),
}


def of_torch(shape: Sequence[int], rng: Rng, device: torch.device) -> Tensor:
    return torch.randn(*shape, device=device)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in HEADS if name != "diffusion"]


@pytest.mark.parametrize("name", ["diffusion", *SLOW])
def test_loss_and_sample_are_one_graph(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("heads.flow", "heads.diffusion", "heads.consistency"):
        monkeypatch.setattr(f"kinema.{module}.normal", of_torch)
    monkeypatch.setattr(noise, "normal", of_torch)
    config: HeadConfig = HEADS[name]
    torch.manual_seed(0)
    head = config.build(action_width=2, pred_horizon=4, width=8)
    readout = torch.randn(3, 1, 8)
    context = Context(readout, torch.ones(3, 1, dtype=torch.bool), {"action": readout})
    action, mask = torch.randn(3, 4, 2), torch.ones(3, 4, dtype=torch.bool)
    mask[0, 2:] = False
    rng = torch.Generator()
    torch._dynamo.reset()
    for call in (lambda: head.loss(context, action, mask, rng=rng), lambda: head.sample(context, rng=rng)):
        explained = torch._dynamo.explain(call)()
        assert explained.graph_count == 1 and explained.graph_break_count == 0, explained.break_reasons
