"""The optimiser against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kinema.core.errors import KinemaError
from kinema.train.optim import OptimConfig, build_optimizer, decayed, learning_rate_at, named_moments


class Mixed(nn.Module):
    """One of each kind of parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.norm = nn.LayerNorm((2, 4))
        self.words = nn.Embedding(5, 4)
        self.out = nn.Linear(4, 5, bias=False)
        self.out.weight = self.words.weight
        self.convolution = nn.Conv2d(3, 2, 3)
        self.position_embedding = nn.Parameter(torch.zeros(1, 7, 4))
        self.scale = nn.Parameter(torch.ones(4))
        self.mixing = nn.Parameter(torch.ones(4, 4))
        self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)


def test_weight_decay_is_for_matrices_only() -> None:
    which = decayed(Mixed())
    assert {name for name, yes in which.items() if yes} == {"linear.weight", "convolution.weight", "mixing"}
    assert "norm.weight" in which and "words.weight" in which and "frozen" not in which


def test_every_trainable_parameter_is_in_exactly_one_group() -> None:
    network = Mixed()
    optimizer = build_optimizer(network, OptimConfig(weight_decay=0.3))
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted({id(p) for p in network.parameters() if p.requires_grad})
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0]


def test_two_steps_of_adamw_by_hand() -> None:
    network = nn.Linear(1, 1)
    with torch.no_grad():
        network.weight.fill_(2.0)
        network.bias.fill_(2.0)
    config = OptimConfig(learning_rate=0.1, weight_decay=0.5, betas=(0.5, 0.75), eps=1e-8)
    optimizer = build_optimizer(network, config)
    network.weight.grad, network.bias.grad = torch.full((1, 1), 3.0), torch.full((1,), 3.0)
    optimizer.step()
    # First step: both corrected moments are the gradient's own, so the step is lr * sign; decay is lr * 0.5 * 2.
    assert network.weight.item() == pytest.approx(2.0 - 0.1 - 0.1, abs=1e-6)
    assert network.bias.item() == pytest.approx(2.0 - 0.1, abs=1e-6)
    network.weight.grad, network.bias.grad = torch.full((1, 1), -1.0), torch.full((1,), -1.0)
    optimizer.step()
    # m = .5 * 1.5 - .5 = .25, / (1 - .25) = 1/3; v = .75 * 2.25 + .25 = 1.9375, / (1 - .5625) = 4.428571.
    step = 0.1 * (1 / 3) / 4.428571**0.5
    assert network.weight.item() == pytest.approx(1.8 * 0.95 - step, abs=1e-6)
    assert network.bias.item() == pytest.approx(1.9 - step, abs=1e-6)


def test_memory_layout_of_a_parameter_changes_nothing() -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 5, 3)
    other = nn.Conv2d(3, 5, 3)
    other.load_state_dict(plain.state_dict())
    other = other.to(memory_format=torch.channels_last)
    image = torch.randn(2, 3, 8, 8)
    for network in (plain, other):
        optimizer = build_optimizer(network, OptimConfig(learning_rate=0.1))
        for _ in range(3):
            optimizer.zero_grad()
            network(image).square().mean().backward()
            optimizer.step()
    assert torch.allclose(plain.weight, other.weight, atol=1e-4)


def test_schedule_by_hand() -> None:
    config = OptimConfig(learning_rate=1.0, warmup_steps=4, min_lr_fraction=0.2)
    rates = [learning_rate_at(step, config, 12) for step in (0, 1, 3, 4, 6, 8, 12, 99)]
    half_root = 0.5**0.5
    expected = [0.2, 0.4, 0.8, 1.0, 0.2 + 0.8 * (1 + half_root) / 2, 0.6, 0.2, 0.2]
    assert rates == pytest.approx(expected, abs=1e-12)


def test_warm_up_as_long_as_the_training_is_refused() -> None:
    with pytest.raises(KinemaError, match=r"optim.warmup_steps: 12 must be below steps, 12"):
        learning_rate_at(0, OptimConfig(warmup_steps=12), 12)


@pytest.mark.parametrize(
    "changes", [{"learning_rate": 0.0}, {"betas": (0.9, 1.0)}, {"min_lr_fraction": 2.0}, {"clip_norm": 0.0}]
)
def test_values_out_of_range_are_named(changes: dict[str, float]) -> None:
    with pytest.raises(KinemaError, match=rf"optim\.{next(iter(changes))}: .* out of range"):
        OptimConfig(**changes)


def test_half_precision_parameters_and_frozen_networks_are_refused() -> None:
    with pytest.raises(KinemaError, match=r"'weight' is torch.bfloat16: keep what is trained in float32"):
        build_optimizer(nn.Linear(2, 2).bfloat16(), OptimConfig())
    with pytest.raises(KinemaError, match="no trainable parameters"):
        build_optimizer(nn.Linear(2, 2).requires_grad_(False), OptimConfig())


def test_moments_are_named_after_their_parameters() -> None:
    network = nn.Linear(2, 1)
    optimizer = build_optimizer(network, OptimConfig())
    network.weight.grad = torch.ones(1, 2)
    optimizer.step()
    moments = named_moments(network, optimizer)
    assert set(moments) == {f"{p}.{part}" for p in ("weight", "bias") for part in ("step", "exp_avg", "exp_avg_sq")}
    assert (moments["weight.step"].item(), moments["bias.step"].item()) == (1.0, 0.0)
    assert moments["weight.exp_avg"][0, 0].item() == pytest.approx(0.05)
