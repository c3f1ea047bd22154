"""Parallel bins: the loss by hand, draws by frequency, and what independent draws do to what belongs together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import scipy.stats
import torch
import torch.nn.functional as F

from kinema.actions.bins import Bins
from kinema.core.errors import KinemaError
from kinema.heads.categorical import Categorical, CategoricalHead
from kinema.nets.base import Context
from kinema.sim.fork import Fork

BINS = Bins(convention="rt1")


def head_of(config: Categorical, horizon: int = 3, actions: int = 2) -> CategoricalHead:
    torch.manual_seed(0)
    return config.build(action_width=actions, pred_horizon=horizon, width=8)


def context_of(batch: int) -> Context:
    readout = torch.ones(batch, 1, 8)
    return Context(tokens=readout, mask=torch.ones(batch, 1, dtype=torch.bool), readout={"action": readout})


def test_loss_is_the_cross_entropy_of_the_codecs_tokens() -> None:
    head = head_of(Categorical(codec=BINS))
    action = torch.rand(4, 3, 2, generator=torch.Generator().manual_seed(1)) * 2.4 - 1.2
    tokens = torch.from_numpy(BINS.encode(action.numpy()))
    expected = F.cross_entropy(head.logits(context_of(4)).permute(0, 3, 1, 2), tokens, reduction="none").mean(-1)
    mask = torch.ones(4, 3, dtype=torch.bool)
    mask[2, 1:] = False
    loss = head.loss(context_of(4), action, mask, rng=torch.Generator())
    assert torch.allclose(loss, expected * mask, atol=1e-6) and (loss[2, 1:] == 0).all()
    action[1, 1, 0] = torch.nan
    loss = head.loss(context_of(4), action, mask, rng=torch.Generator())
    assert loss.isnan().nonzero().tolist() == [[1, 1]], "what is no number has no bin"


def test_draws_follow_the_logits_and_temperature_zero_takes_the_best() -> None:
    head = head_of(Categorical(codec=BINS), horizon=1, actions=1)
    with torch.no_grad():
        head.predict.project[1].bias[100:] = -1e9
        head.predict.project[1].weight.mul_(3.0)
    probability = head.logits(context_of(1))[0, 0, 0].detach().double().softmax(-1)[:100].numpy()
    with torch.no_grad():
        drawn = head.sample(context_of(5000), rng=torch.Generator().manual_seed(2))
    counts = torch.bincount(torch.from_numpy(BINS.encode(drawn.numpy() + 1e-3)).flatten(), minlength=100).numpy()
    assert scipy.stats.chisquare(counts, 5000 * probability, sum_check=False).pvalue > 0.01
    greedy = head_of(Categorical(codec=BINS, temperature=0.0), horizon=1, actions=1)
    greedy.load_state_dict(head.state_dict())
    best = greedy.sample(context_of(2), rng=torch.Generator()).flatten()
    assert best.numpy() == pytest.approx(BINS.decode(probability.argmax()[None])[0], abs=1e-6)


def test_half_of_what_belongs_together_is_drawn_apart(fit: Callable[..., Any]) -> None:
    """Two components whose signs always agree, drawn by themselves, disagree half of the time."""
    fork = Fork(correlated=True, horizon=4)
    drawn = fork.judge(fit(Categorical(), fork, steps=200, seed=0).sample(1000, 0))
    assert 0.45 <= drawn.invalid <= 0.55, drawn
    assert drawn.left == pytest.approx(drawn.right, abs=0.05), "each component alone is right"
    one = Fork(correlated=True, horizon=4, majority=1.0)
    assert one.judge(fit(Categorical(), one, steps=200, seed=0).sample(500, 0)).left >= 0.9


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(KinemaError, match=r"temperature -1\.0 must be at least 0"):
        head_of(Categorical(temperature=-1.0))


def test_each_number_can_have_a_readout_token_of_its_own() -> None:
    head = head_of(Categorical(codec=BINS, each=True))
    readout = torch.randn(2, 7, 8, generator=torch.Generator().manual_seed(1))
    context = Context(tokens=readout, mask=torch.ones(2, 7, dtype=torch.bool), readout={"action": readout})
    logits = head.logits(context)
    assert logits.shape == (2, 3, 2, 256) and isinstance(head.predict, torch.nn.Linear)
    for step, number in ((0, 0), (1, 1), (2, 0)):
        expected = readout[:, 2 * step + number] @ head.predict.weight.T + head.predict.bias
        assert torch.allclose(logits[:, step, number], expected, atol=1e-6)
    with pytest.raises(KinemaError, match="categorical: 6 numbers want a readout token each, got 1"):
        head.logits(context_of(2))
