"""The residual networks are torchvision's, by size and by name; frozen batch norm is batch norm that stands still."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from kinema.core.errors import KinemaError
from kinema.nets.resnet_backbone import TORCHVISION, FrozenBatchNorm, ResNetBackbone

PARAMETERS = {18: 11_689_512 - 513_000, 34: 21_797_672 - 513_000, 50: 25_557_032 - 2_049_000}
"""As torchvision's documentation has them, without the classifier of 1000 classes."""


def made(layers: int, **changes: int | str) -> ResNetBackbone:
    return ResNetBackbone(**{"layers": layers, "channels": 64, "stages": 4, "norm": "group", **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("layers", PARAMETERS)
def test_sizes_are_the_published(layers: int) -> None:
    with torch.device("meta"):
        network = made(layers)
        assert network(torch.empty(2, 3, 300, 224)).shape == (2, network.width, 10, 7)
    assert network.map_size(300, 224) == (10, 7)
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[layers]


@pytest.mark.parametrize("layers", [18, 50])
def test_every_weight_has_torchvisions_name(layers: int) -> None:
    with torch.device("meta"):
        ours = list(made(layers, norm="frozen").state_dict())
    theirs = [TORCHVISION.theirs(name) for name in ours]
    assert len(set(theirs)) == len(ours) and [TORCHVISION.ours(name) for name in theirs] == ours
    entry = r"(conv1|layer[1-4]\.\d\.(conv[123]|downsample\.0))\.weight"
    norm = r"(bn1|layer[1-4]\.\d\.(bn[123]|downsample\.1))\.(weight|bias|running_mean|running_var)"
    assert all(re.fullmatch(f"{entry}|{norm}", name) for name in theirs)
    wanted = {"conv1.weight", "bn1.running_var", "layer1.0.conv1.weight", "layer4.1.bn2.bias"}
    assert wanted <= set(theirs)
    assert ("layer1.0.downsample.0.weight" in theirs) == (layers == 50), "basic blocks keep the width in layer 1"
    assert "layer2.0.downsample.0.weight" in theirs and "layer2.1.downsample.0.weight" not in theirs


def test_frozen_batch_norm_is_batch_norm_that_stands_still() -> None:
    rng = torch.Generator().manual_seed(0)
    frozen, moving = FrozenBatchNorm(5), nn.BatchNorm2d(5).eval()
    for name in ("weight", "bias", "running_mean", "running_var"):
        value = 0.5 + torch.rand(5, generator=rng)
        frozen.state_dict()[name].copy_(value)
        moving.state_dict()[name].copy_(value)
    features = torch.randn(3, 5, 4, 2, generator=rng)
    assert torch.allclose(frozen(features), moving(features), atol=1e-6)
    frozen.train()
    assert torch.allclose(frozen(features), moving(features), atol=1e-6) and not list(frozen.parameters())


def test_groups_have_sixteen_channels_and_no_batch_norm_is_left() -> None:
    network = made(10, channels=32, stages=2)
    norms = [part for part in network.modules() if isinstance(part, nn.GroupNorm)]
    assert {(norm.num_groups, norm.num_channels) for norm in norms} == {(2, 32), (4, 64)}
    assert not [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    assert network.width == 64 and network(torch.zeros(1, 3, 48, 41)).shape == (1, 64, 6, 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": "grup"}, "unknown resnet norm 'grup'; did you mean 'group'"),
        ({"layers": 19}, r"layers 19 \(one of 10, 18, 34, 50\)"),
        ({"stages": 5}, r"stages 5 \(1 to 4\)"),
        ({"channels": 24}, "channels 24 must be a multiple of 16"),
    ],
)
def test_impossible_networks_are_refused(changes: dict[str, int | str], message: str) -> None:
    with pytest.raises(KinemaError, match=message):
        made(**{"layers": 18, **changes})  # type: ignore[arg-type]
