"""RT-1's decoder: what reads what, its layer by the published formula, and a short training."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kinema.core.errors import KinemaError
from kinema.nets.base import Context, Group, Tokens
from kinema.nets.trunks.causal import Causal, CausalTrunk

GROUPS = (Group(name="front", tokens=6, steps=3), Group(name="told", tokens=2), Group(name="wrist", tokens=3, steps=3))
SMALL = Causal(layers=3, heads=2, head_width=8, readouts=4, dropout=0.0)
WIDTH = 12


def build(config: Causal = SMALL) -> CausalTrunk:
    torch.manual_seed(0)
    return config.build(GROUPS, width=WIDTH).eval()


def values(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 11, WIDTH, generator=torch.Generator().manual_seed(1))


def of(trunk: CausalTrunk, given: torch.Tensor) -> Context:
    with torch.no_grad():
        return trunk(Tokens.present(given))


def test_tokens_are_in_the_order_of_steps() -> None:
    assert build().order.tolist() == [6, 7, 0, 1, 8, 2, 3, 9, 4, 5, 10]


def test_what_reads_what() -> None:
    expected = [[j <= i and j < 11 for j in range(14)] for i in range(14)]
    assert build().reads.tolist() == expected, "the three empty tokens read all, but not each other or themselves"


@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_later_frame_changes_nothing_earlier(step: int) -> None:
    trunk, given = build(), values()
    before = of(trunk, given)
    changed = given.clone()
    changed[:, 2 * step : 2 * step + 2] += 1.0
    changed[:, 8 + step] -= 1.0
    after = of(trunk, changed)
    first = 2 + 3 * step
    assert torch.equal(before.tokens[:, :first], after.tokens[:, :first])
    assert (before.tokens[:, first:] - after.tokens[:, first:]).abs().amax((0, 2)).min() > 1e-4
    assert (before.readout["action"] - after.readout["action"]).abs().amax((0, 2)).min() > 1e-4


def test_the_readout_is_the_last_token_and_what_follows_it() -> None:
    context = of(build(), values())
    assert context.tokens.shape == (2, 11, WIDTH) and context.readout["action"].shape == (2, 4, WIDTH)
    assert torch.equal(context.readout["action"][:, 0], context.tokens[:, -1])


def test_readouts_do_not_read_each_other() -> None:
    trunk, given = build(), values()
    before = of(trunk, given)
    with torch.no_grad():
        trunk.positions[12] += 1.0
    after = of(trunk, given)
    moved = (before.readout["action"] - after.readout["action"]).abs().amax((0, 2))
    assert moved[2] > 1e-4 and (moved[[0, 1, 3]] == 0).all() and torch.equal(before.tokens, after.tokens)


def test_ignored_encoders_have_no_influence_at_all() -> None:
    trunk, given = build(Causal(layers=2, heads=2, head_width=8, ignores=("told",))), values()
    before, changed = of(trunk, given), given.clone()
    changed[:, 6:8] += 1.0
    assert before.tokens.shape == (2, 9, WIDTH)
    assert torch.equal(before.readout["action"], of(trunk, changed).readout["action"])
    with pytest.raises(KinemaError, match=r"unknown encoder .* 'tld'; did you mean 'told'"):
        Causal(ignores=("tld",)).build(GROUPS, width=WIDTH)


def test_nothing_present_is_finite() -> None:
    context = build()(Tokens(values(), torch.zeros(2, 11, dtype=torch.bool)))
    assert torch.isfinite(context.readout["action"]).all()


def test_a_layer_is_that_of_the_published_code() -> None:
    """Keras attention with `head_width` numbers a head, then one linear layer, each after a normalisation."""
    trunk = build(Causal(layers=1, heads=2, head_width=8, dropout=0.0))
    layer, x = trunk.layers[0], values()
    reads = trunk.reads
    with torch.no_grad():
        made = layer(x, reads[None, None])
        normed = nn.functional.layer_norm(x, (WIDTH,), eps=1e-6)
        query, key, value = layer.attention.enter(normed).chunk(3, dim=-1)
        heads = []
        for head in (slice(0, 8), slice(8, 16)):
            score = query[..., head] @ key[..., head].transpose(1, 2) / 8**0.5
            heads.append(score.masked_fill(~reads, -torch.inf).softmax(-1) @ value[..., head])
        middle = x + layer.attention.leave(torch.cat(heads, dim=-1))
        expected = middle + layer.linear[0](nn.functional.layer_norm(middle, (WIDTH,), eps=1e-6))
    assert torch.allclose(made, expected, atol=1e-6)


def test_the_published_decoder_has_19_million_parameters() -> None:
    """The count in section 5.1 of the paper, here with RT-1's 6 frames of 8 tokens and 11 numbers an action."""
    with torch.device("meta"):
        trunk = Causal(readouts=11).build([Group(name="front", tokens=48, steps=6)], width=512)
        predict = nn.Linear(512, 256)
    count = sum(p.numel() for part in (trunk, predict) for p in part.parameters())
    assert count == pytest.approx(19e6, rel=0.02)
    assert trunk.length == 48 + 10, "the first of the 11 numbers is read at the last token of the newest frame"
