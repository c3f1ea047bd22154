"""Every trunk keeps the contract of `kinema.nets.base.Trunk`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kinema.core.config import from_data, to_data
from kinema.core.errors import KinemaError
from kinema.core.names import members
from kinema.nets.base import Context, Group, Tokens, Trunk, TrunkConfig
from kinema.nets.trunks.language_model import LanguageModel

BATCH, TOKENS, WIDTH = 3, 4, 16
GROUPS = (Group(name="told", tokens=2), Group(name="seen", tokens=2, steps=2))


def make(config: TrunkConfig) -> Trunk:
    torch.manual_seed(0)
    return config.build(GROUPS, width=width_of(config))


def width_of(config: TrunkConfig) -> int:
    return config.size.width if isinstance(config, LanguageModel) else WIDTH


def inputs(config: TrunkConfig) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.randn(BATCH, TOKENS, width_of(config), generator=torch.Generator().manual_seed(1))
    mask = torch.ones(BATCH, TOKENS, dtype=torch.bool)
    mask[0, 2:] = False
    return tokens, mask


def check_context_has_an_action_readout(config: TrunkConfig) -> None:
    tokens, mask = inputs(config)
    trunk = make(config).eval()
    context = trunk(Tokens(tokens, mask))
    assert isinstance(context, Context)
    readout = context.readout["action"]
    assert readout.dim() == 3 and readout.shape[0] == BATCH
    assert readout.shape[2] == (trunk.context_width or width_of(config))
    assert context.tokens.shape[0] == BATCH and context.mask.shape == context.tokens.shape[:2]
    assert torch.isfinite(readout).all()


def check_masked_tokens_have_no_influence(config: TrunkConfig) -> None:
    tokens, mask = inputs(config)
    trunk = make(config).eval()
    before = trunk(Tokens(tokens, mask)).readout["action"]
    changed = torch.where(mask[..., None], tokens, torch.tensor(100.0))
    assert torch.equal(before, trunk(Tokens(changed, mask)).readout["action"]), "absent tokens change the readout"
    present = tokens.clone()
    present[1, 3] += 1.0
    moved = (trunk(Tokens(present, mask)).readout["action"] - before).abs().amax((1, 2))
    assert moved[1] > 0 and moved[0] == 0 and moved[2] == 0


def check_batch_of_one_equals_a_row(config: TrunkConfig) -> None:
    tokens, mask = inputs(config)
    trunk = make(config).eval()
    together = trunk(Tokens(tokens, mask)).readout["action"]
    for index in range(BATCH):
        alone = trunk(Tokens(tokens[index : index + 1], mask[index : index + 1])).readout["action"]
        assert torch.allclose(alone[0], together[index], atol=1e-5)


def check_gradient_everywhere(config: TrunkConfig) -> None:
    tokens, mask = inputs(config)
    tokens.requires_grad_()
    trunk = make(config).eval()
    context = trunk(Tokens(tokens, mask))
    read = [context.readout["action"]]
    if context.extend is not None and context.kv is not None:
        words = context.extend.embed(torch.zeros(BATCH, 1, dtype=torch.int64))
        read.append(context.extend.logits(context.extend.extend(words, context.kv, mask, causal=True)[0]))
    rng = torch.Generator().manual_seed(3)
    torch.stack([(part * torch.randn(part.shape, generator=rng)).sum() for part in read]).sum().backward()
    idle = [name for name, p in trunk.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not idle, f"no gradient reaches {idle}"
    reached = tokens.grad.abs().amax(-1) > 0
    assert torch.equal(reached, mask), "the gradient must reach every present token and no absent one"


def check_placed_tokens_are_read_or_refused(config: TrunkConfig) -> None:
    """Of steps, and none else: there is no token whose position the trunk would learn."""
    groups, width = [Group(name="seen", tokens=4, steps=2, placed=True)], width_of(config)
    if isinstance(config, LanguageModel):
        with pytest.raises(KinemaError, match="'seen' brings positions of its own"):
            config.build(groups, width=width)
        return
    torch.manual_seed(0)
    trunk = config.build(groups, width=width).eval()
    tokens, mask = inputs(config)
    first, second = (trunk(Tokens(tokens, mask, torch.full((TOKENS, width), place))) for place in (0.0, 1.0))
    assert first.readout["action"].shape == second.readout["action"].shape
    assert torch.isfinite(first.readout["action"]).all() and torch.isfinite(second.readout["action"]).all()


def check_nothing_present_is_no_fault(config: TrunkConfig) -> None:
    tokens, mask = inputs(config)
    mask[1] = False
    trunk = make(config).eval()
    assert torch.isfinite(trunk(Tokens(tokens, mask)).readout["action"]).all()


def check_configuration_round_trip(config: TrunkConfig) -> None:
    assert from_data(to_data(config)) == config


CHECKS = [value for name, value in sorted(globals().items()) if name.startswith("check_")]

PLANTED = """
from dataclasses import dataclass
from kinema.nets.base import Tokens
from kinema.nets.trunks.fusion import Fusion, FusionTrunk

@dataclass(frozen=True, kw_only=True)
class Planted(Fusion):
    def build(self, groups, *, width):
        return PlantedTrunk(self, tokens=sum(group.tokens for group in groups), width=width)

class PlantedTrunk(FusionTrunk):
    def forward(self, tokens):
        return super().forward(Tokens.present(tokens.values))
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
