"""Every denoiser keeps the contract of `kinema.nets.denoisers.base`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from kinema.core.config import from_data, to_data
from kinema.core.names import members
from kinema.nets.base import Context
from kinema.nets.denoisers.base import Denoiser, DenoiserConfig
from kinema.nets.language.sizes import Decoder

BATCH, HORIZON, ACTIONS, WIDTH = 4, 8, 2, 12
SIZE = Decoder(family="llama", layers=2, width=16, hidden=24, heads=2, kv_heads=1, head_width=8, vocabulary=0)
SMALL: dict[str, Any] = {
    "hidden": 16,
    "blocks": 2,
    "layers": 2,
    "channels": (8, 16),
    "time_width": 16,
    "dropout": 0.0,
    "size": SIZE,
}
"""Sizes by field name, so that the tests are quick; a new member with other names is tested at its defaults."""


def small(config: DenoiserConfig) -> DenoiserConfig:
    return replace(config, **{f.name: SMALL[f.name] for f in fields(config) if f.name in SMALL})  # type: ignore[type-var]


def context_of(seed: int = 1) -> Context:
    rng = torch.Generator().manual_seed(seed)
    mask = torch.ones(BATCH, 3, dtype=torch.bool)
    mask[0, 1:] = False
    readout = torch.randn(BATCH, 1, WIDTH, generator=rng)
    tokens = torch.randn(BATCH, 3, WIDTH, generator=rng)
    kept = torch.randn(SIZE.layers, 2, BATCH, SIZE.kv_heads, 3, SIZE.head_width, generator=rng)
    private = torch.randn(BATCH, 1, SIZE.width, generator=rng)
    kv = tuple((keys, values) for keys, values in kept)
    return Context(tokens=tokens, mask=mask, readout={"action": readout}, kv=kv, private=private)


def rows(context: Context, which: slice) -> Context:
    assert context.kv is not None and context.private is not None
    return replace(
        context,
        tokens=context.tokens[which],
        mask=context.mask[which],
        readout={name: value[which] for name, value in context.readout.items()},
        kv=tuple((keys[which], values[which]) for keys, values in context.kv),
        private=context.private[which],
    )


def chunks_and_times() -> tuple[Tensor, Tensor]:
    chunks = torch.randn(BATCH, HORIZON, ACTIONS, generator=torch.Generator().manual_seed(2))
    return chunks, torch.tensor([0.0, 0.31, 0.5, 1.0])


def make(config: DenoiserConfig) -> Denoiser:
    """Return the denoiser after a few steps of training: gates that start at zero let nothing through at first."""
    torch.manual_seed(0)
    denoiser = config.build(action_width=ACTIONS, pred_horizon=HORIZON, width=WIDTH)
    optimiser = torch.optim.Adam(denoiser.parameters(), lr=1e-2)
    x, t = chunks_and_times()
    for step in range(12):
        wanted = torch.randn(x.shape, generator=torch.Generator().manual_seed(step))
        optimiser.zero_grad()
        (denoiser(x, t, context_of(step)) - wanted).square().mean().backward()
        optimiser.step()
    return denoiser.eval()


def check_shape_and_kind(config: DenoiserConfig) -> None:
    denoiser, (x, t) = make(config), chunks_and_times()
    predicted = denoiser(x, t, context_of())
    assert predicted.shape == x.shape and predicted.dtype == torch.float32 and torch.isfinite(predicted).all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = denoiser(x, t, context_of())
    assert rounded.dtype == torch.float32 and (rounded - predicted).abs().max() < 0.2


def check_chunk_time_and_context_matter(config: DenoiserConfig) -> None:
    denoiser, (x, t) = make(config), chunks_and_times()
    before = denoiser(x, t, context_of())
    for changed in (denoiser(-x, t, context_of()), denoiser(x, 0.95 - 0.8 * t, context_of())):
        assert (changed - before).abs().amax((1, 2)).min() > 1e-5
    assert (denoiser(x, t, context_of(seed=9)) - before).abs().amax((1, 2)).min() > 1e-5


def check_absent_tokens_have_no_influence(config: DenoiserConfig) -> None:
    denoiser, (x, t), context = make(config), chunks_and_times(), context_of()
    assert context.kv is not None
    present, other = context.mask[..., None], torch.tensor(50.0)
    tokens = torch.where(present, context.tokens, other)
    kv = tuple(
        (torch.where(present[:, None], k, other), torch.where(present[:, None], v, other)) for k, v in context.kv
    )
    assert torch.equal(denoiser(x, t, context), denoiser(x, t, replace(context, tokens=tokens, kv=kv)))


def check_batch_of_one_equals_a_row(config: DenoiserConfig) -> None:
    denoiser, (x, t), context = make(config), chunks_and_times(), context_of()
    together = denoiser(x, t, context)
    for index in range(BATCH):
        row = slice(index, index + 1)
        alone = denoiser(x[row], t[row], rows(context, row))
        assert torch.allclose(alone[0], together[index], atol=1e-5)


def check_gradient_everywhere(config: DenoiserConfig) -> None:
    denoiser, (x, t) = make(config), chunks_and_times()
    predicted = denoiser(x.requires_grad_(), t, context_of())
    (predicted * torch.randn(x.shape, generator=torch.Generator().manual_seed(3))).sum().backward()
    idle = [name for name, p in denoiser.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not idle, f"no gradient reaches {idle}"
    assert x.grad is not None and (x.grad.abs() > 0).all()


def check_configuration_round_trip(config: DenoiserConfig) -> None:
    assert from_data(to_data(config)) == config


CHECKS = [value for name, value in sorted(globals().items()) if name.startswith("check_")]


@pytest.mark.parametrize("name", members("denoiser"))
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_denoiser(check: Callable[[DenoiserConfig], None], name: str, configure: Callable[[str, str], Any]) -> None:
    config = configure("denoiser", name)
    assert isinstance(config, DenoiserConfig)
    check(small(config))


PLANTED = """
from dataclasses import dataclass
from kinema.nets.denoisers.mlp import Mlp, MlpDenoiser

@dataclass(frozen=True, kw_only=True)
class Planted(Mlp):
    def build(self, *, action_width, pred_horizon, width):
        return PlantedDenoiser(self, action_width=action_width, pred_horizon=pred_horizon, width=width)

class PlantedDenoiser(MlpDenoiser):
    def forward(self, x, t, context):
        return super().forward(x, t * 0, context)
"""


def test_a_denoiser_that_ignores_time_is_found(
    plant: Callable[[str, str, str], None], configure: Callable[[str, str], Any]
) -> None:
    plant("denoiser", "planted", PLANTED)
    assert "planted" in members("denoiser")
    with pytest.raises(AssertionError):
        check_chunk_time_and_context_matter(small(configure("denoiser", "planted")))
