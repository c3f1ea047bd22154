"""The optimiser against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from kinema.core.errors import KinemaError
from kinema.train.loop import fit
from kinema.train.optim import (
    OptimConfig,
    build_optimizer,
    decayed,
    freeze,
    held,
    learning_rate_at,
    named_moments,
    set_learning_rate,
)
from kinema.train.weights import read_tensors


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


def test_groups_learn_at_their_own_rate() -> None:
    network = Mixed()
    config = OptimConfig(weight_decay=0.3, groups={"linear": 0.1, "*tion.weight": 2.0})
    optimizer = build_optimizer(network, config)
    set_learning_rate(optimizer, 0.5)
    names = {id(p): name for name, p in network.named_parameters()}
    rates = {names[id(p)]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert rates["linear.weight"] == (0.05, 0.3) and rates["linear.bias"] == (0.05, 0.0)
    assert rates["convolution.weight"] == (1.0, 0.3) and rates["convolution.bias"] == (0.5, 0.0)
    assert rates["norm.weight"] == (0.5, 0.0) and len(rates) == 10


def test_a_factor_scales_the_step_by_hand() -> None:
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    config = OptimConfig(learning_rate=0.1, weight_decay=0.0, groups={"1": 0.25})
    optimizer = build_optimizer(network, config)
    set_learning_rate(optimizer, 0.1)
    for layer in network:
        with torch.no_grad():
            layer.weight.fill_(2.0)
        layer.weight.grad = torch.ones(1, 1)
    optimizer.step()
    # The first step of Adam is the learning rate times the sign of the gradient.
    assert [layer.weight.item() for layer in network] == pytest.approx([1.9, 1.975], abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": {"liner": 0.1}}, r"optim.groups: 'liner' matches no trainable parameter; did you mean 'linear'\?"),
        ({"groups": {"linear.wieght": 1.0}}, r"did you mean 'linear.weight'\?"),
        ({"groups": {"frozen": 0.1}}, r"optim.groups: 'frozen' matches no trainable parameter"),
        (
            {"groups": {"linear": 0.1, "*.bias": 2.0}},
            r"optim.groups: 'linear.bias' is matched by 'linear' and by '\*.bias'; one must do",
        ),
        ({"freeze": {"nrom": 5}}, r"optim.freeze: 'nrom' matches no parameter; did you mean 'norm'\?"),
        ({"freeze": {"norm": 10}}, r"optim.freeze: 'norm' until step 10 of 10; None freezes for good"),
        ({"freeze": {"frozen": 5}}, r"optim.freeze: 'frozen' matches no trainable parameter"),
    ],
)
def test_patterns_that_do_not_fit_are_named(changes: dict[str, Any], message: str) -> None:
    network, config = Mixed(), OptimConfig(**changes)

    def build() -> None:
        freeze(network, config)
        held(network, config, 10)
        build_optimizer(network, config)

    with pytest.raises(KinemaError, match=message):
        build()


@pytest.mark.parametrize("changes", [{"groups": {"linear": 0.0}}, {"freeze": {"linear": 0}}])
def test_factors_and_steps_out_of_range_are_named(changes: dict[str, Any]) -> None:
    with pytest.raises(KinemaError, match=rf"optim\.{next(iter(changes))}: .* out of range"):
        OptimConfig(**changes)


def apart(**changes: Any) -> OptimConfig:
    return OptimConfig(learning_rate=1e-2, warmup_steps=5, weight_decay=0.01, **changes)


def test_frozen_parameters_wait_for_their_step(tmp_path: Path, tiny: ModuleType) -> None:
    begun = {name: p.clone() for name, p in tiny.Tiny().named_parameters()}
    config = tiny.config(steps=14, optim=apart(freeze={"net.0": 7, "net.4.bias": None}), ema_decay=0.0)
    fit(tiny.Tiny(), tiny.batches, config, tmp_path)
    early, late = (
        [read_tensors(tmp_path / "checkpoints" / f"step-{step:06d}" / f"{file}.safetensors") for file in files]
        for step, files in ((7, ("model", "optimizer")), (14, ("model", "optimizer")))
    )
    for name in ("net.0.weight", "net.0.bias"):
        assert torch.equal(early[0][name], begun[name]) and not torch.equal(late[0][name], begun[name])
        assert not early[1][f"{name}.exp_avg"].any() and early[1][f"{name}.step"] == 0 and late[1][f"{name}.step"] == 7
    assert not torch.equal(early[0]["net.4.weight"], begun["net.4.weight"])
    assert torch.equal(late[0]["net.4.bias"], begun["net.4.bias"]) and "net.4.bias.step" not in late[1]


def test_groups_and_freezing_resume_exactly(tmp_path: Path, tiny: ModuleType) -> None:
    config = tiny.config(steps=20, optim=apart(groups={"net.4": 0.1}, freeze={"net.0": 9}))
    fit(tiny.Tiny(), tiny.batches, config, tmp_path / "whole")

    def ending(start: int) -> Any:
        return (tiny.batch_of(step) for step in range(start, 16))

    with pytest.raises(KinemaError, match="the batches end at step 16"):
        fit(tiny.Tiny(), ending, config, tmp_path / "parts")
    fit(tiny.Tiny(), tiny.batches, config, tmp_path / "parts")
    whole, parts = (read_tensors(tmp_path / run / "weights.safetensors") for run in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    other = tiny.config(steps=20, optim=apart(groups={"net.4": 0.2}, freeze={"net.0": 9}))
    with pytest.raises(KinemaError, match=r"optim.groups.net.4: 0.2, but the checkpoint has 0.1"):
        fit(tiny.Tiny(), tiny.batches, other, tmp_path / "parts")


def test_factors_of_one_change_no_bit(tmp_path: Path, tiny: ModuleType) -> None:
    fit(tiny.Tiny(), tiny.batches, tiny.config(steps=9), tmp_path / "plain")
    fit(tiny.Tiny(), tiny.batches, tiny.config(steps=9, optim=apart(groups={"net.0": 1.0})), tmp_path / "ones")
    plain, ones = (read_tensors(tmp_path / run / "weights.safetensors") for run in ("plain", "ones"))
    assert all(torch.equal(plain[name], ones[name]) for name in plain)
