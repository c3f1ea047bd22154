"""The mixture over chunks: its density against torch.distributions, its draws by their moments, and two ways kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import scipy.stats
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from kinema.core.errors import KinemaError
from kinema.heads.base import HasLogProb
from kinema.heads.flow import Flow
from kinema.heads.gmm import Gmm, GmmHead
from kinema.nets.base import Context
from kinema.sim.fork import Fork

BATCH, MODES, HORIZON, ACTIONS = 3, 5, 4, 2


def head_of(config: Gmm, horizon: int = HORIZON) -> GmmHead:
    torch.manual_seed(0)
    return config.build(action_width=ACTIONS, pred_horizon=horizon, width=8)


def context_of(batch: int = BATCH) -> Context:
    readout = torch.ones(batch, 1, 8)
    return Context(tokens=readout, mask=torch.ones(batch, 1, dtype=torch.bool), readout={"action": readout})


Mixture = tuple[Tensor, Tensor, Tensor]


@pytest.fixture
def mixture() -> Mixture:
    rng = torch.Generator().manual_seed(1)
    logits = torch.randn(BATCH, MODES, generator=rng, dtype=torch.float64)
    mean = torch.randn(BATCH, MODES, HORIZON, ACTIONS, generator=rng, dtype=torch.float64).tanh()
    std = 0.05 + torch.rand(BATCH, MODES, HORIZON, ACTIONS, generator=rng, dtype=torch.float64)
    return logits.log_softmax(-1), mean, std


def oracle(mixture: Mixture, action: Tensor, steps: int) -> Tensor:
    """Return the log-density (B,) of the first `steps` steps."""
    logits, mean, std = (part[:, :, :steps].flatten(2) if part.ndim == 4 else part for part in mixture)
    family = MixtureSameFamily(Categorical(logits=logits), Independent(Normal(mean, std), 1))
    return family.log_prob(action[:, :steps].flatten(1))


def test_density_is_that_of_torch_distributions(mixture: Mixture, monkeypatch: pytest.MonkeyPatch) -> None:
    head = head_of(Gmm())
    assert isinstance(head, HasLogProb)
    assert not isinstance(Flow().build(action_width=1, pred_horizon=1, width=8), HasLogProb)
    monkeypatch.setattr(head, "mixture", lambda context: mixture)
    action = torch.randn(BATCH, HORIZON, ACTIONS, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    mask = torch.ones(BATCH, HORIZON, dtype=torch.bool)
    steps = head.log_prob(context_of(), action, mask)
    for length in range(1, HORIZON + 1):
        assert (steps[:, :length].sum(1) - oracle(mixture, action, length)).abs().max() <= 1e-6
    loss = head.loss(context_of(), action, mask, rng=torch.Generator())
    assert torch.equal(loss, -steps)


def test_single_precision_is_close(mixture: Mixture, monkeypatch: pytest.MonkeyPatch) -> None:
    head = head_of(Gmm())
    monkeypatch.setattr(head, "mixture", lambda context: tuple(part.float() for part in mixture))
    action = mixture[1][:, 0] + 0.1
    mask = torch.ones(BATCH, HORIZON, dtype=torch.bool)
    ours = head.log_prob(context_of(), action.float(), mask).sum(1)
    assert torch.allclose(ours.double(), oracle(mixture, action, HORIZON), rtol=1e-6, atol=1e-5)


def test_padding_leaves_the_density_of_the_rest(mixture: Mixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the missing second step and of a missing component nothing is asked."""
    head = head_of(Gmm())
    monkeypatch.setattr(head, "mixture", lambda context: mixture)
    action = torch.full((BATCH, HORIZON, ACTIONS), 0.3, dtype=torch.float64)
    mask = torch.ones(BATCH, HORIZON, dtype=torch.bool)
    mask[:, 1] = False
    logits, mean, std = mixture
    kept = [0, 2, 3]
    expected = oracle((logits, mean[:, :, kept], std[:, :, kept]), action, 3)
    found = head.log_prob(context_of(), action, mask)
    assert (found[:, 1] == 0).all() and torch.allclose(found.sum(1), expected, atol=1e-9)
    components = torch.ones(BATCH, HORIZON, ACTIONS, dtype=torch.bool)
    components[..., 1] = False
    expected = oracle((logits, mean[..., :1], std[..., :1]), action[..., :1], HORIZON)
    assert torch.allclose(head.log_prob(context_of(), action, components).sum(1), expected, atol=1e-9)


def test_means_are_within_the_tanh_and_stds_above_the_floor() -> None:
    head = head_of(Gmm(min_std=1e-4))
    with torch.no_grad():
        head.predict.project[1].bias.copy_(torch.full_like(head.predict.project[1].bias, -100.0))
    _, mean, std = head.mixture(context_of())
    assert torch.allclose(mean, torch.tensor(-1.0)) and torch.allclose(std, torch.tensor(1e-4))


def test_draws_have_the_weights_and_spreads_of_the_modes(mixture: Mixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the same place ten times apart, so that it is clear which mode a draw is of."""
    count = 4000
    logits, _, std = (part[:1].expand(count, *part.shape[1:]).float() for part in mixture)
    mean = 100.0 * torch.arange(MODES)[None, :, None, None].expand(count, -1, HORIZON, ACTIONS).float()
    for noise in ("low", "full"):
        head = head_of(Gmm(noise=noise))
        monkeypatch.setattr(head, "mixture", lambda context: (logits, mean, std))
        drawn = head.sample(context_of(count), rng=torch.Generator().manual_seed(3))
        mode = (drawn[:, 0, 0] / 100).round().long()
        assert ((drawn / 100).round() == mode[:, None, None]).all(), "a chunk is of one mode"
        counts = torch.bincount(mode, minlength=MODES).numpy()
        expected = count * logits[0].double().softmax(-1).numpy()
        assert scipy.stats.chisquare(counts, expected, sum_check=False).pvalue > 0.01
        which = int(counts.argmax())
        spread = (drawn[mode == which] - 100.0 * which).std(0)
        wanted = std[0, which] if noise == "full" else torch.tensor(1e-4)
        assert ((spread - wanted).abs() < 0.1 * wanted + 1e-5).all()


def test_both_ways_are_kept_whole_and_one_mode_cannot(fit: Callable[..., Any]) -> None:
    five = fit(Gmm(), Fork(), steps=300, seed=0)
    chunks = five.sample(500, 0)
    modes = Fork().judge(chunks)
    assert modes.cover >= 0.35 and modes.invalid <= 0.05, modes
    head = five.alone.head
    _, means, _ = head.mixture(five.alone.context(1))
    gap = (torch.from_numpy(chunks)[:, None] - means.detach()).abs().amax((2, 3)).min(1).values
    assert gap.max() <= 1e-3, "acting hugs a mean"
    one = Fork().judge(fit(Gmm(modes=1), Fork(), steps=200, seed=0).sample(500, 0))
    assert one.invalid >= 0.9, one


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(KinemaError, match="modes 0 must be at least 1"):
        head_of(Gmm(modes=0))
    with pytest.raises(KinemaError, match=r"min_std 0\.0 above 0"):
        head_of(Gmm(min_std=0.0))
    with pytest.raises(KinemaError, match="unknown noise of a gmm 'lo'; did you mean 'low'"):
        head_of(Gmm(noise="lo"))  # type: ignore[arg-type]
