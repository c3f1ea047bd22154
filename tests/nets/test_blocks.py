"""Blocks by hand."""

from __future__ import annotations

import math

import pytest
import torch

from kinema.nets.blocks import Film, ResidualBlock, sinusoidal
from kinema.nets.noise import normal


def test_film_starts_as_the_identity_and_then_scales_and_shifts() -> None:
    film = Film(2, 3)
    features, condition = torch.randn(4, 3, 5, 6), torch.randn(4, 2)
    assert torch.equal(film(features, condition), features)
    with torch.no_grad():
        film.project.bias.copy_(torch.tensor([0.0, 1.0, -1.0, 10.0, 20.0, 30.0]))
    ones = torch.ones(1, 3, 1, 1)
    assert film(ones, torch.zeros(1, 2)).flatten().tolist() == [11.0, 22.0, 30.0]
    assert film(ones.view(1, 3), torch.zeros(1, 2)).flatten().tolist() == [11.0, 22.0, 30.0]


def test_residual_block_adds_to_its_input() -> None:
    block = ResidualBlock(4, condition_width=2)
    with torch.no_grad():
        block.layers[-1].weight.zero_()
        block.layers[-1].bias.copy_(torch.arange(4.0))
    values = torch.randn(3, 4)
    assert torch.allclose(block(values, torch.randn(3, 2)), values + torch.arange(4.0))
    with pytest.raises(ValueError, match="needs a condition"):
        block(values)


def test_sinusoidal_features_have_the_stated_periods() -> None:
    features = sinusoidal(torch.tensor([0.0, 1.0, 4.0]), 4)
    assert features[0].tolist() == [0.0, 0.0, 1.0, 1.0]
    # The longest period is 4: one unit of time is a quarter turn, four are a whole one.
    assert features[1, 1].item() == pytest.approx(1.0, abs=1e-6) and features[1, 3].item() == pytest.approx(0, abs=1e-6)
    assert features[2, 1].item() == pytest.approx(0.0, abs=1e-5) and features[2, 3].item() == pytest.approx(1.0)
    short = sinusoidal(torch.tensor([1e-3]), 4)[0]
    assert short[0].item() == pytest.approx(math.sin(math.pi / 2), abs=1e-5)


def test_noise_rows_come_from_their_own_generators() -> None:
    def generators(*seeds: int) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    device = torch.device("cpu")
    together = normal((3, 2, 2), generators(1, 2, 3), device)
    assert torch.equal(together[1], normal((1, 2, 2), generators(2), device)[0])
    assert torch.equal(together[2], torch.randn(2, 2, generator=generators(3)[0]))
    assert together.std() > 0.3 and not torch.equal(together[0], together[1])
    with pytest.raises(ValueError, match="1 generators for a batch of 2"):
        normal((2, 1), generators(1), device)
