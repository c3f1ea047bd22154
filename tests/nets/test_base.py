"""Noise and draws: by hand, by frequency, and the same whatever the neighbours are."""

from __future__ import annotations

import pytest
import scipy.stats
import torch

from kinema.nets.base import Tokens, joined
from kinema.nets.noise import draw, uniform


def test_draw_by_hand() -> None:
    """Probabilities 1/2, 1/4, 1/4: the distribution function steps at 0.5 and 0.75."""
    logits = torch.tensor([0.5, 0.25, 0.25]).log()
    noise = torch.tensor([0.0, 0.49, 0.51, 0.74, 0.76, 1.0])
    assert draw(logits, noise).tolist() == [0, 0, 1, 1, 2, 2]
    impossible = torch.tensor([-torch.inf, 0.0, -torch.inf])
    assert draw(impossible, torch.tensor([0.0, 0.5, 1.0]))[:2].tolist() == [1, 1]


def test_temperature_sharpens_and_zero_takes_the_most_likely() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 0.0]])
    noise = torch.rand(2, 4000, generator=torch.Generator().manual_seed(0))
    assert (draw(logits, noise, temperature=0) == torch.tensor([[1], [0]])).all()
    for temperature in (0.5, 1.0, 3.0):
        counts = torch.bincount(draw(logits, noise, temperature=temperature)[0], minlength=3)
        expected = 4000 * (logits[0] / temperature).softmax(-1)
        assert scipy.stats.chisquare(counts.numpy(), expected.numpy(), sum_check=False).pvalue > 0.01


def test_draws_of_a_batch_are_those_of_its_rows() -> None:
    rng = torch.Generator().manual_seed(1)
    logits, noise = torch.randn(3, 4, 7, generator=rng), torch.rand(3, 4, 2, generator=rng)
    assert torch.equal(draw(logits, noise)[1, 2], draw(logits[1, 2], noise[1, 2]))


def test_uniform_noise_is_uniform_and_an_entry_has_its_own() -> None:
    values = uniform((1, 5000), torch.Generator().manual_seed(2), torch.device("cpu"))[0]
    assert scipy.stats.kstest(values.numpy(), "uniform").pvalue > 0.01
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    both = uniform((2, 5), generators, torch.device("cpu"))
    alone = uniform((1, 5), [torch.Generator().manual_seed(4)], torch.device("cpu"))
    assert torch.equal(both[1], alone[0])
    with pytest.raises(ValueError, match="2 generators for a batch of 3"):
        uniform((3, 5), generators, torch.device("cpu"))


def test_joined_parts_keep_words_and_positions_where_they_have_them() -> None:
    told = Tokens(
        torch.zeros(2, 2, 3), torch.tensor([[True, True], [True, False]]), ids=torch.tensor([[7, 8], [9, -1]])
    )
    seen = Tokens.present(torch.ones(2, 1, 3), positions=torch.full((1, 3), 5.0))
    both = joined([told, seen])
    assert both.ids is not None and both.ids.tolist() == [[7, 8, -1], [9, -1, -1]] and both.ids.dtype == torch.int64
    assert both.positions is not None and both.positions.tolist() == [[0.0] * 3, [0.0] * 3, [5.0] * 3]
    assert both.mask.tolist() == [[True, True, True], [True, False, True]]
    assert both.values[:, 2].eq(1).all() and joined([seen, seen]).ids is None
