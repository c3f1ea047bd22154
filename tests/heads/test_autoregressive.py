"""Tokens one after the other: order and loss by hand, rows that end, and what belongs together drawn together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kinema.actions.bins import Bins
from kinema.actions.codec import Codec
from kinema.actions.fast import FAST
from kinema.core.errors import KinemaError
from kinema.core.rng import generator
from kinema.heads.autoregressive import Autoregressive, AutoregressiveHead
from kinema.nets.base import Context
from kinema.nets.causal_decoder import CausalDecoder
from kinema.sim.fork import Fork

HORIZON, ACTIONS, WIDTH = 3, 2, 16


@dataclass(frozen=True, kw_only=True)
class Signs(Codec):
    """A chunk above zero is the row "0 end", one below "1 1 end", everything else no chunk."""

    @property
    def size(self) -> int:
        return 3

    @property
    def end(self) -> int:
        return 2

    def length(self, pred_horizon: int, action_width: int) -> int:
        return 3

    def encode_chunks(self, chunks: np.ndarray) -> np.ndarray:
        return np.where(chunks.mean((1, 2))[:, None] > 0, [0, 2, 2], [1, 1, 2]).astype(np.int64)

    def decode_chunks(
        self, tokens: np.ndarray, *, pred_horizon: int, action_width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        above = np.array([row[:2].tolist() == [0, 2] for row in tokens])
        below = np.array([row.tolist() == [1, 1, 2] for row in tokens])
        value = np.where(above, 0.5, np.where(below, -0.5, np.nan))
        return np.tile(value[:, None, None], (1, pred_horizon, action_width)), ~(above | below)


def head_of(config: Autoregressive, horizon: int = HORIZON, actions: int = ACTIONS) -> AutoregressiveHead:
    torch.manual_seed(0)
    return config.build(action_width=actions, pred_horizon=horizon, width=WIDTH)


def context_of(batch: int) -> Context:
    tokens = torch.randn(batch, 3, WIDTH, generator=torch.Generator().manual_seed(1))
    return Context(tokens=tokens, mask=torch.ones(batch, 3, dtype=torch.bool), readout={})


def actions_of(batch: int, horizon: int = HORIZON) -> Tensor:
    return torch.rand(batch, horizon, ACTIONS, generator=torch.Generator().manual_seed(2)) * 2 - 1


def test_tokens_go_step_by_step_and_the_loss_is_their_cross_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    bins = Bins(convention="openvla")
    head = head_of(Autoregressive(codec=bins))
    logits = torch.randn(2, HORIZON * ACTIONS, bins.size, generator=torch.Generator().manual_seed(3))
    seen: list[tuple[Tensor, Tensor]] = []

    def given(decoder: CausalDecoder, tokens: Tensor, present: Tensor, context: Context) -> Tensor:
        seen.append((tokens, present))
        return logits

    monkeypatch.setattr(CausalDecoder, "forward", given)
    action, mask = actions_of(2), torch.ones(2, HORIZON, dtype=torch.bool)
    mask[1, 1:] = False
    loss = head.loss(context_of(2), action, mask, rng=torch.Generator())
    expected = torch.from_numpy(bins.encode(action.numpy()))
    assert torch.equal(seen[0][0][0].view(HORIZON, ACTIONS), expected[0]), "all of a step, then the next step"
    assert seen[0][1].tolist() == [[True] * 6, [True, True] + [False] * 4]
    each = F.cross_entropy(logits.view(2, HORIZON, ACTIONS, -1).permute(0, 3, 1, 2), expected, reduction="none")
    assert torch.allclose(loss, each.mean(-1) * mask, atol=1e-6)
    action[0, 2, 1] = torch.nan
    assert head.loss(context_of(2), action, mask, rng=torch.Generator()).isnan().nonzero().tolist() == [[0, 2]]


def test_drawn_chunks_have_the_likelihood_that_drew_them() -> None:
    """Greedy acting: each token is the most likely one after those before it, all read at once."""
    head = head_of(Autoregressive(temperature=0.0, codec=Bins(convention="centred"))).eval()
    chunks = head.sample(context_of(4), rng=torch.Generator())
    tokens = torch.from_numpy(Bins(convention="centred").encode(chunks.numpy())).flatten(1)
    again = head.decoder(tokens, torch.ones_like(tokens, dtype=torch.bool), context_of(4)).argmax(-1)
    assert torch.equal(tokens, again)


def test_what_belongs_together_is_drawn_together(fit: Callable[..., Any]) -> None:
    fork = Fork(correlated=True, horizon=4)
    drawn = fork.judge(fit(Autoregressive(blocks=1), fork, steps=1000, seed=0, batch=64).sample(1000, 0))
    assert drawn.invalid <= 0.02 and drawn.cover >= 0.35, drawn


def test_a_row_that_ends_is_learnt_up_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    head = head_of(Autoregressive(codec=Signs()))
    logits = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(3))
    monkeypatch.setattr(CausalDecoder, "forward", lambda decoder, tokens, present, context: logits)
    action = torch.stack([torch.ones(HORIZON, ACTIONS), -torch.ones(HORIZON, ACTIONS)])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    loss = head.loss(context_of(2), action, mask, rng=torch.Generator())
    negative = -logits.log_softmax(-1)
    first = (negative[0, 0, 0] + negative[0, 1, 2]) / 2 * 5 / 4  # two of five real steps carry half of the mean
    second = (negative[1, 0, 1] + negative[1, 1, 1] + negative[1, 2, 2]) / 3 * 5 / 6
    assert torch.allclose(loss, torch.stack([first, first, torch.tensor(0.0), second, second, second]).view(2, 3))


def test_rows_of_different_lengths_are_learnt_and_drawn() -> None:
    head = head_of(Autoregressive(codec=Signs(), blocks=1))
    optimiser = torch.optim.Adam(head.parameters(), lr=3e-3)
    sign = torch.tensor([1.0, -1.0]).repeat(16)
    action, mask = sign[:, None, None].expand(-1, HORIZON, ACTIONS), torch.ones(32, HORIZON, dtype=torch.bool)
    same = Context(tokens=torch.ones(32, 3, WIDTH), mask=torch.ones(32, 3, dtype=torch.bool), readout={})
    for _ in range(150):
        optimiser.zero_grad()
        head.loss(same, action, mask, rng=torch.Generator()).mean().backward()
        optimiser.step()
    with torch.no_grad():
        drawn = head.sample(same, rng=torch.Generator().manual_seed(4))
    assert set(drawn.flatten().tolist()) == {0.5, -0.5} and abs(drawn.mean()) < 0.3


def test_an_unreadable_row_is_zeros_and_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    head = head_of(Autoregressive(codec=Signs(), temperature=0.0))
    rows = iter(torch.tensor([[0, 1, 1], [2, 0, 1], [2, 0, 2]]))  # place after place: rows "0 end", "1 0", "1 1 end"

    def given(decoder: CausalDecoder, before: Tensor | None, index: int, memory: Any) -> tuple[Tensor, Any]:
        return F.one_hot(next(rows), 3).float(), memory

    monkeypatch.setattr(CausalDecoder, "step", given)
    with pytest.warns(UserWarning, match="1 of 3 sampled rows of tokens are no chunk"):
        drawn = head.sample(context_of(3), rng=torch.Generator())
    assert drawn[:, 0, 0].tolist() == [0.5, 0.0, -0.5]


@pytest.mark.filterwarnings("ignore:.*sampled rows of tokens are no chunk")
def test_fast_tokens_of_whole_chunks_keep_both_ways(fit: Callable[..., Any]) -> None:
    fork = Fork(horizon=8)
    codec = FAST.fit(list(fork.chunks(2000, generator("autoregressive test"))), scale=10.0, vocabulary=128)
    fitted = fit(Autoregressive(codec=codec, blocks=1), fork, steps=800, seed=0, batch=64)
    modes = fork.judge(fitted.sample(300, 0))
    assert modes.cover >= 0.35 and modes.invalid <= 0.2, modes


def test_padding_of_a_whole_chunk_codec_has_no_influence() -> None:
    fork = Fork(horizon=8)
    codec = FAST.fit(list(fork.chunks(500, generator("autoregressive test"))), scale=10.0, vocabulary=128)
    head = head_of(Autoregressive(codec=codec), horizon=8)
    chunk, mask = torch.from_numpy(fork.chunks(4, generator("padding"))), torch.ones(4, 8, dtype=torch.bool)
    mask[:, 5:] = False
    chunk[:, 5:] = chunk[:, 4:5]
    held = head.loss(context_of(4), chunk, mask, rng=torch.Generator())
    chunk[:, 5:] = 50.0
    assert torch.equal(held, head.loss(context_of(4), chunk, mask, rng=torch.Generator()))
    assert (held[:, 5:] == 0).all() and (held[:, :5] > 0).all()


@pytest.mark.filterwarnings("ignore:.*sampled rows of tokens are no chunk")
def test_an_entrys_draws_do_not_depend_on_when_its_neighbours_end() -> None:
    head = head_of(Autoregressive(codec=Signs())).eval()
    context = context_of(6)
    together = head.sample(context, rng=[torch.Generator().manual_seed(seed) for seed in range(6)])
    for entry in range(6):
        alone = Context(tokens=context.tokens[entry : entry + 1], mask=context.mask[:1], readout={})
        assert torch.equal(head.sample(alone, rng=[torch.Generator().manual_seed(entry)])[0], together[entry])


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(KinemaError, match=r"temperature -0\.5 must be at least 0"):
        head_of(Autoregressive(temperature=-0.5))
    with pytest.raises(KinemaError, match="width 16 must be a multiple of heads 5"):
        head_of(Autoregressive(heads=5))
