"""Residual quantisation by hand, against its laws, and what its second layer and its dead codes are about."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kinema.core.errors import KinemaError
from kinema.nets.vq import ResidualQuantiser, perplexity


def quantiser(codebook: Tensor, **changes: float) -> ResidualQuantiser:
    layers, codes, width = codebook.shape
    made = ResidualQuantiser(width=width, layers=layers, codes=codes, **changes)
    made.codebook.copy_(codebook)
    made.count.fill_(1.0)
    made.total.copy_(codebook)
    return made


def learnt(vectors: Tensor, *, layers: int, codes: int, revive: float, steps: int = 60) -> ResidualQuantiser:
    torch.manual_seed(0)
    made = ResidualQuantiser(width=vectors.shape[1], layers=layers, codes=codes, revive=revive)
    rng, keep = torch.Generator().manual_seed(0), torch.ones(len(vectors), dtype=torch.bool)
    for _ in range(steps):
        made.learn(vectors, made(vectors).codes, keep, rng=rng)
    return made


def test_rounding_by_hand() -> None:
    """Layer 1 has 0 and 10, layer 2 has -1 and 2: 9 is 10 - 1, 2.5 is 0 + 2."""
    made = quantiser(torch.tensor([[[0.0], [10.0]], [[-1.0], [2.0]]]))
    x = torch.tensor([[9.0], [2.5]], requires_grad=True)
    vectors, codes, commitment = made(x)
    assert codes.tolist() == [[1, 0], [0, 1]] and vectors.flatten().tolist() == [9.0, 2.0]
    assert torch.equal(made.lookup(codes), vectors)
    assert commitment.tolist() == [1.0 + 0.0, 6.25 + 0.25]
    vectors.sum().backward()
    assert x.grad.flatten().tolist() == [2.0, 2.0], "straight through, once for each layer as in the reference"


def test_codes_follow_the_moving_average_by_hand() -> None:
    """decay 0.8: code 0 gets 2 vectors of mean 3, so count .8 + .2 * 2 and total .8 * 0 + .2 * 6; code 1 decays."""
    made = quantiser(torch.tensor([[[0.0], [10.0]]]))
    x = torch.tensor([[2.0], [4.0], [50.0]])
    keep = torch.tensor([True, True, False])
    made.learn(x, made(x).codes, keep, rng=torch.Generator())
    assert made.count[0].tolist() == pytest.approx([1.2, 0.8])
    assert made.total[0].flatten().tolist() == pytest.approx([1.2, 8.0])
    assert made.codebook[0].flatten().tolist() == pytest.approx([1.0, 10.0], rel=1e-4)


def test_nothing_moves_without_a_vector() -> None:
    made = quantiser(torch.randn(2, 4, 3), revive=0.5)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    x = torch.randn(5, 3)
    made.learn(x, made(x).codes, torch.full((5,), False), rng=torch.Generator())
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


def test_the_second_layer_halves_the_error_and_all_codes_are_in_use() -> None:
    """Points of a square: 16 cells, then 16 cells of each cell, so a quarter of the distance is possible."""
    x = torch.rand(2000, 2, generator=torch.Generator().manual_seed(1))
    made = learnt(x, layers=2, codes=16, revive=0.1)
    vectors, codes, _ = made(x)
    first = (x - made.codebook[0][codes[:, 0]]).norm(dim=-1).mean()
    assert (x - vectors).norm(dim=-1).mean() <= 0.5 * first
    assert (perplexity(codes, 16) > 10).all()


def test_dead_codes_come_to_life() -> None:
    """Three far clusters choose few of the codes that begin around zero; the others are used when revived."""
    centre = torch.tensor([[5.0, 0.0], [0.0, 5.0], [-5.0, -5.0]])
    rng = torch.Generator().manual_seed(2)
    x = centre[torch.randint(3, (600,), generator=rng)] + 0.3 * torch.randn(600, 2, generator=rng)
    dead, alive = (learnt(x, layers=1, codes=16, revive=revive) for revive in (0.0, 0.1))
    assert perplexity(dead(x).codes, 16).item() < 8 < 12 < perplexity(alive(x).codes, 16).item()
    assert alive.codebook.abs().max() < 7, "no code has run away"


def test_perplexity_by_hand() -> None:
    codes = torch.tensor([[0, 0], [1, 0], [2, 0], [3, 1]])
    used = perplexity(codes, 4).tolist()
    assert used == pytest.approx([4.0, math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))])


def test_misfits_are_named() -> None:
    with pytest.raises(KinemaError, match=r"2 layers \(1 or more\) of 1 codes"):
        ResidualQuantiser(width=2, layers=2, codes=1)
    with pytest.raises(KinemaError, match="revive 1"):
        ResidualQuantiser(width=2, layers=1, codes=4, revive=1.0)
    with pytest.raises(KinemaError, match="3 codes a vector for 2 codebooks"):
        quantiser(torch.randn(2, 4, 3)).lookup(torch.zeros(5, 3, dtype=torch.int64))
