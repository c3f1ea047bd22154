"""Every head keeps the contract of `kinema.heads.base`, and a head that does not is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from kinema.core.config import from_data, to_data
from kinema.core.names import find, members
from kinema.core.policy import Guide
from kinema.heads.base import AcceptsGuide, ConditionsTrunk, Head, HeadConfig, PicksByEmbodiment
from kinema.nets.base import Context, Group, Tokens
from kinema.nets.language.sizes import Decoder
from kinema.nets.noise import Rng
from kinema.nets.trunks.language_model import LanguageModel

BATCH, HORIZON, ACTIONS, WIDTH = 4, 5, 2, 32
TRUNK = LanguageModel(
    size=Decoder(family="llama", layers=2, width=WIDTH, hidden=64, heads=2, kv_heads=1, head_width=16, vocabulary=280)
)

PLANTED = """
from dataclasses import dataclass
import torch
from torch import nn
from kinema.heads._losses import step_mean
from kinema.heads.base import Head, HeadConfig

@dataclass(frozen=True, kw_only=True)
class Planted(HeadConfig):
    ignores_mask: bool = False
    global_noise: bool = False
    drops_parameter: bool = False

    def build(self, *, action_width, pred_horizon, width):
        return PlantedHead(self, action_width, pred_horizon, width)

class PlantedHead(Head):
    def __init__(self, config, action_width, pred_horizon, width):
        super().__init__()
        self.config, self.shape = config, (pred_horizon, action_width)
        self.layer = nn.Linear(width, pred_horizon * action_width)
        self.unused = nn.Linear(2, 2) if config.drops_parameter else None

    def loss(self, context, action, mask, *, rng):
        error = (self.predict(context) - action).square()
        return error.mean(-1) if self.config.ignores_mask else step_mean(error, mask)

    def sample(self, context, *, rng):
        predicted = self.predict(context)
        return predicted + torch.rand(predicted.shape) if self.config.global_noise else predicted

    def predict(self, context):
        return self.layer(context.readout["action"][:, 0]).view(-1, *self.shape)
"""


def context_of(batch: int = BATCH, seed: int = 1, dtype: torch.dtype = torch.float32) -> Context:
    rng = torch.Generator().manual_seed(seed)
    tokens = torch.randn(batch, 3, WIDTH, generator=rng).to(dtype)
    readout = torch.randn(batch, 1, WIDTH, generator=rng).to(dtype)
    return Context(tokens=tokens, mask=torch.ones(batch, 3, dtype=torch.bool), readout={"action": readout})


def rows(context: Context, which: slice) -> Context:
    readout = {name: value[which] for name, value in context.readout.items()}
    return Context(tokens=context.tokens[which], mask=context.mask[which], readout=readout)


def actions_and_mask() -> tuple[Tensor, Tensor]:
    action = torch.randn(BATCH, HORIZON, ACTIONS, generator=torch.Generator().manual_seed(2))
    mask = torch.ones(BATCH, HORIZON, dtype=torch.bool)
    mask[1, 3:] = False
    mask[2, 1:] = False
    return action, mask


def make(config: HeadConfig) -> Head:
    """Return the head; one that goes on with its trunk has one with it, which learns with it."""
    torch.manual_seed(0)
    head = config.build(action_width=ACTIONS, pred_horizon=HORIZON, width=WIDTH)
    if config.goes_on:
        head.add_module("trunk", TRUNK.build([Group(name="all", tokens=3)], width=WIDTH))
    return head


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def given(head: Head, context: Context, token: Tensor | None, posterior: Tensor | None = None) -> Context:
    """Return `context` as the network would make it for `head`: with its own token first, and an embodiment."""
    if token is not None:
        mask = torch.cat([torch.ones(len(token), 1, dtype=torch.bool), context.mask], dim=1)
        tokens = torch.cat([token, context.tokens], dim=1)
        context = replace(context, tokens=tokens, mask=mask, posterior=posterior)
    for name, trunk in head.named_children():
        if name == "trunk":  # the first token is a word, the others are what they are
            ids = torch.tensor([7, -1, -1]).expand(context.mask.shape)
            context = trunk(Tokens(context.tokens, context.mask, ids=ids))
    if isinstance(head, PicksByEmbodiment):
        robots = ["testarm" if value > 0 else "otherarm" for value in context.readout["action"][:, 0, 1]]
        context = replace(context, embodiment=head.pick(robots))
    return context


def loss_of(head: Head, action: Tensor, mask: Tensor, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    torch.manual_seed(seed)  # of dropout
    rng, own = torch.Generator().manual_seed(seed), (None, None)
    if isinstance(head, ConditionsTrunk):
        own = head.condition(None, action, mask, rng=rng)
    return head.loss(given(head, context_of(dtype=dtype), *own), action, mask, rng=rng)


def sample_of(head: Head, context: Context, rng: Rng) -> Tensor:
    token = head.prior(len(context.tokens), rng=rng) if isinstance(head, ConditionsTrunk) else None
    return head.sample(given(head, context, token), rng=rng)


def train(head: Head, steps: int) -> list[float]:
    """Return the losses of a few Adam steps on one batch."""
    action, mask = actions_and_mask()
    optimiser = torch.optim.Adam(head.parameters(), lr=3e-3)
    losses = []
    for _ in range(steps):
        loss = loss_of(head, action, mask, 5).sum() / mask.sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def check_loss_is_finite_and_per_step(config: HeadConfig) -> None:
    action, mask = actions_and_mask()
    loss = loss_of(make(config), action, mask, 3)
    assert loss.shape == (BATCH, HORIZON) and loss.dtype == torch.float32
    assert torch.isfinite(loss).all() and (loss[mask] != 0).all()


def check_padding_has_no_influence(config: HeadConfig) -> None:
    head = make(config)
    train(head, 3)
    action, mask = actions_and_mask()
    results = []
    for padding in (0.0, 50.0):
        filled = torch.where(mask[..., None], action, torch.tensor(padding)).requires_grad_()
        head.zero_grad()
        loss = loss_of(head, filled, mask, 3)
        assert (loss[~mask] == 0).all(), "padded steps carry a loss"
        loss.sum().backward()
        assert filled.grad is None or (filled.grad[~mask] == 0).all(), "padded steps get a gradient"
        results.append([loss.detach(), *[p.grad.clone() for p in head.parameters() if p.grad is not None]])
    assert all(torch.equal(first, second) for first, second in zip(*results, strict=True)), "padding changes the loss"


def check_padded_components_have_no_influence(config: HeadConfig) -> None:
    """Entry 1 is of a robot with one action component: the other is padding."""
    head = make(config)
    train(head, 3)
    action, steps = actions_and_mask()
    components = torch.ones(BATCH, 1, ACTIONS, dtype=torch.bool)
    components[1, :, 1] = False
    mask = steps[..., None] & components
    results = []
    for padding in (0.0, 50.0):
        filled = torch.where(mask, action, torch.tensor(padding)).requires_grad_()
        head.zero_grad()
        loss = loss_of(head, filled, mask, 3)
        assert loss.shape == steps.shape and (loss[~steps] == 0).all() and (loss[steps] != 0).all()
        loss.sum().backward()
        assert filled.grad is None or (filled.grad[~mask] == 0).all(), "padded components get a gradient"
        results.append([loss.detach(), *[p.grad.clone() for p in head.parameters() if p.grad is not None]])
    assert all(torch.equal(first, second) for first, second in zip(*results, strict=True)), "padding changes the loss"
    whole = loss_of(head, action, steps, 3)
    ones = loss_of(head, action, steps[..., None].expand_as(action), 3)
    assert torch.allclose(whole, ones), "components that are all real change nothing"


def trained(config: HeadConfig) -> Head:
    """Return a head past its first stage, if it learns in stages: before, it does not act."""
    head = make(config)
    train(head, 3)
    return head.eval()


def check_loss_and_gradients_are_finite_in_half_precision(config: HeadConfig) -> None:
    """As training does it where bf16 is native: tokens may then come in either precision."""
    head, (action, mask) = make(config), actions_and_mask()
    for dtype in (torch.float32, torch.bfloat16):
        for _ in range(4):  # in every stage
            head.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = loss_of(head, action, mask, 3, dtype)
            assert loss.shape == mask.shape and torch.isfinite(loss).all(), f"tokens in {dtype}"
            loss.float().sum().backward()
            assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.grad is not None)
        head = make(config)


def check_sample_is_a_function_of_the_generator(config: HeadConfig) -> None:
    head = trained(config)
    first = sample_of(head, context_of(), torch.Generator().manual_seed(7))
    assert first.shape == (BATCH, HORIZON, ACTIONS) and first.dtype == torch.float32 and torch.isfinite(first).all()
    torch.manual_seed(123)
    assert torch.equal(first, sample_of(head, context_of(), torch.Generator().manual_seed(7)))


def check_own_generator_means_own_sample(config: HeadConfig) -> None:
    head, context = trained(config), context_of()
    together = sample_of(head, context, seeded(10, 11, 12, 13))
    for index in range(BATCH):
        alone = sample_of(head, rows(context, slice(index, index + 1)), seeded(10 + index))
        assert torch.allclose(together[index], alone[0], atol=1e-5), "a sample depends on its neighbours"


def check_every_parameter_learns(config: HeadConfig) -> None:
    head = make(config)
    action, mask = actions_and_mask()
    idle = {name for name, _ in head.named_parameters()}
    for _ in range(4):  # zero-initialised gates let nothing through at first, and a head may learn in stages
        head.zero_grad()
        loss_of(head, action, mask, 3).sum().backward()
        idle -= {name for name, p in head.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
        train(head, 1)
    assert not idle, f"no gradient reaches {sorted(idle)}"


def check_training_lowers_the_loss(config: HeadConfig) -> None:
    losses = train(make(config), 60)
    assert losses[-1] < 0.5 * max(losses)  # a later stage may begin higher


def check_the_readout_matters(config: HeadConfig) -> None:
    head = make(config)
    train(head, 30)
    head.eval()
    samples = [sample_of(head, context_of(seed=seed), seeded(1, 2, 3, 4)) for seed in (1, 2)]
    assert (samples[0] - samples[1]).abs().mean() > 0.05


def check_configuration_round_trip(config: HeadConfig) -> None:
    assert from_data(to_data(config)) == config
    with pytest.raises(AttributeError):
        config.anything = 1  # type: ignore[attr-defined]


def check_a_guide_is_followed(config: HeadConfig) -> None:
    head, context = make(config).eval(), context_of()
    if not isinstance(head, AcceptsGuide):
        return
    head.check_guide("guided", 2)
    plain = head.sample(context, rng=seeded(1, 2, 3, 4))
    target, weight = plain + 1.0, torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0])
    free = Guide(action=target, weight=torch.zeros(HORIZON))
    assert torch.equal(head.sample_guided(context, free, rng=seeded(1, 2, 3, 4)), plain)
    pulled = head.sample_guided(context, Guide(action=target, weight=weight), rng=seeded(1, 2, 3, 4))
    assert (pulled - target)[:, :2].abs().mean() < 0.5, "a guide is not followed"


CHECKS = [value for name, value in sorted(globals().items()) if name.startswith("check_")]


@pytest.mark.parametrize("name", members("head"))
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_head(check: Callable[[HeadConfig], None], name: str, configure: Callable[[str, str], Any]) -> None:
    config = configure("head", name)
    assert isinstance(config, HeadConfig)
    check(config)


def test_a_planted_head_is_discovered_and_its_fault_found(plant: Callable[[str, str, str], None]) -> None:
    plant("head", "planted", PLANTED)
    assert "planted" in members("head")
    planted = find("head", "planted")
    for check in CHECKS:
        if check is not check_configuration_round_trip:
            check(planted())
    check_configuration_round_trip(planted())
    with pytest.raises(AssertionError, match="padded steps carry a loss"):
        check_padding_has_no_influence(planted(ignores_mask=True))
    with pytest.raises(AssertionError):
        check_padded_components_have_no_influence(planted(ignores_mask=True))
    with pytest.raises(AssertionError):
        check_sample_is_a_function_of_the_generator(planted(global_noise=True))
    with pytest.raises(AssertionError, match="depends on its neighbours"):
        check_own_generator_means_own_sample(planted(global_noise=True))
    with pytest.raises(AssertionError, match="no gradient reaches"):
        check_every_parameter_learns(planted(drops_parameter=True))


def test_planted_members_are_gone_afterwards() -> None:
    assert "planted" not in members("head")
