"""The moving average against its formula."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kinema.core.errors import KinemaError
from kinema.nets.ema import Ema, decay_at, named_weights


def test_decay_grows_with_the_steps() -> None:
    assert decay_at(1, 0.9999) == 0.0
    assert decay_at(16, 0.9999) == pytest.approx(1 - 1 / 8)
    assert decay_at(1_000, 0.9999) == pytest.approx(0.9943766)
    assert decay_at(10_000, 0.9999) == pytest.approx(0.999)
    assert decay_at(10_000, 0.99) == 0.99
    with pytest.raises(KinemaError, match="from 1, not 0"):
        decay_at(0, 0.9)


def test_average_by_hand() -> None:
    network = nn.Linear(1, 1, bias=False)
    ema = Ema(network, 0.5)
    for step, value in ((1, 4.0), (2, 8.0), (3, 0.0)):
        with torch.no_grad():
            network.weight.fill_(value)
        ema.update(network, step)
    second = 4.0 * (1 - 2**-0.75) + 8.0 * 2**-0.75
    assert ema.state["weight"].item() == pytest.approx(0.5 * second, rel=1e-6)
    assert network.weight.item() == 0.0
    ema.copy_to(network)
    assert network.weight.item() == pytest.approx(0.5 * second, rel=1e-6)


def test_buffers_are_copied_and_frozen_parameters_shared() -> None:
    network = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.BatchNorm1d(2))
    ema = Ema(network, 0.9)
    network[1].running_mean.fill_(5.0)
    network[1].num_batches_tracked.fill_(7)
    ema.update(network, 10)
    assert ema.state["1.running_mean"].tolist() == [5.0, 5.0] and ema.state["1.num_batches_tracked"].item() == 7
    assert ema.state["0.weight"].data_ptr() == network[0].weight.data_ptr()


def test_swapping_gives_the_weights_back_exactly() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    ema = Ema(network, 0.9)
    with torch.no_grad():
        network[0].weight.normal_()
    before = {name: weight.clone() for name, weight in named_weights(network).items()}

    def disturb() -> None:
        with ema.swapped(network):
            assert torch.equal(network[0].weight, ema.state["0.weight"])
            network[1].running_mean.fill_(9.0)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        disturb()
    assert all(torch.equal(before[name], weight) for name, weight in named_weights(network).items())


def test_shared_parameters_appear_once_and_bad_decays_are_refused() -> None:
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    network[1].weight = network[0].weight
    assert list(named_weights(network)) == ["0.weight"]
    with pytest.raises(KinemaError, match="between 0 and 1, not 1"):
        Ema(network, 1.0)
