"""Every trunk keeps the contract of `kinema.nets.base.Trunk`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kinema.core.config import from_data, to_data
from kinema.core.names import members
from kinema.nets.base import Context, Trunk, TrunkConfig

BATCH, TOKENS, WIDTH = 3, 4, 16


def make(config: TrunkConfig) -> Trunk:
    torch.manual_seed(0)
    return config.build(tokens=TOKENS, width=WIDTH)


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.randn(BATCH, TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(BATCH, TOKENS, dtype=torch.bool)
    mask[0, 2:] = False
    return tokens, mask


def check_context_has_an_action_readout(config: TrunkConfig) -> None:
    tokens, mask = inputs()
    context = make(config).eval()(tokens, mask)
    assert isinstance(context, Context)
    readout = context.readout["action"]
    assert readout.dim() == 3 and readout.shape[0] == BATCH and readout.shape[2] == WIDTH
    assert context.tokens.shape[0] == BATCH and context.mask.shape == context.tokens.shape[:2]
    assert torch.isfinite(readout).all()


def check_masked_tokens_have_no_influence(config: TrunkConfig) -> None:
    tokens, mask = inputs()
    trunk = make(config).eval()
    before = trunk(tokens, mask).readout["action"]
    changed = torch.where(mask[..., None], tokens, torch.tensor(100.0))
    assert torch.equal(before, trunk(changed, mask).readout["action"]), "absent tokens change the readout"
    present = tokens.clone()
    present[1, 3] += 1.0
    moved = (trunk(present, mask).readout["action"] - before).abs().amax((1, 2))
    assert moved[1] > 0 and moved[0] == 0 and moved[2] == 0


def check_batch_of_one_equals_a_row(config: TrunkConfig) -> None:
    tokens, mask = inputs()
    trunk = make(config).eval()
    together = trunk(tokens, mask).readout["action"]
    for index in range(BATCH):
        alone = trunk(tokens[index : index + 1], mask[index : index + 1]).readout["action"]
        assert torch.allclose(alone[0], together[index], atol=1e-5)


def check_gradient_everywhere(config: TrunkConfig) -> None:
    tokens, mask = inputs()
    tokens.requires_grad_()
    trunk = make(config).eval()
    readout = trunk(tokens, mask).readout["action"]
    (readout * torch.randn(readout.shape, generator=torch.Generator().manual_seed(3))).sum().backward()
    idle = [name for name, p in trunk.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not idle, f"no gradient reaches {idle}"
    reached = tokens.grad.abs().amax(-1) > 0
    assert torch.equal(reached, mask), "the gradient must reach every present token and no absent one"


def check_configuration_round_trip(config: TrunkConfig) -> None:
    assert from_data(to_data(config)) == config


CHECKS = [value for name, value in sorted(globals().items()) if name.startswith("check_")]

PLANTED = """
from dataclasses import dataclass
from kinema.nets.trunks.fusion import Fusion, FusionTrunk
import torch

@dataclass(frozen=True, kw_only=True)
class Planted(Fusion):
    def build(self, *, tokens, width):
        return PlantedTrunk(self, tokens=tokens, width=width)

class PlantedTrunk(FusionTrunk):
    def forward(self, tokens, mask):
        return super().forward(tokens, torch.ones_like(mask))
"""


@pytest.mark.parametrize("name", members("trunk"))
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_trunk(check: Callable[[TrunkConfig], None], name: str, configure: Callable[[str, str], Any]) -> None:
    config = configure("trunk", name)
    assert isinstance(config, TrunkConfig)
    check(config)


def test_a_trunk_that_ignores_the_mask_is_found(
    plant: Callable[[str, str, str], None], configure: Callable[[str, str], Any]
) -> None:
    plant("trunk", "planted", PLANTED)
    assert "planted" in members("trunk")
    with pytest.raises(AssertionError, match="absent tokens change the readout"):
        check_masked_tokens_have_no_influence(configure("trunk", "planted"))
