"""Adapters in a small network: what trains, what stays, what is the same."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

pytest.importorskip("peft")

from kinema.core.errors import KinemaError
from kinema.nets.adapters import adapt, add, merged, use
from kinema.nets.ema import named_weights
from kinema.nets.lora import Lora, digest

LORA = Lora(rank=2, alpha=3.0, targets=("trunk.*.q",), train=("head",))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.v = nn.Linear(6, 6), nn.Linear(6, 6, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.tanh(self.q(x)) * self.v(x)


class Net(nn.Module):
    """A layer twice, then a head; names that end alike are in other parts."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        self.trunk = nn.ModuleList([Layer(), Layer()])
        self.q = nn.Linear(6, 6)
        self.norm = nn.BatchNorm1d(6) if norm else nn.LayerNorm(6)
        self.head = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3))
        self.tied = nn.Linear(6, 6, bias=False)
        self.tied.weight = self.trunk[0].v.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.trunk:
            x = layer(x)
        return self.head(self.norm(self.q(x)))


def net(seed: int = 0, **options: bool) -> Net:
    torch.manual_seed(seed)
    return Net(**options)


def moved(network: nn.Module, seed: int = 5) -> nn.Module:
    """Give everything that trains other values."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=rng))
    return network


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(5, 6, generator=torch.Generator().manual_seed(1))


def test_the_update_is_that_of_the_paper(x: torch.Tensor) -> None:
    network = net()
    before = network.eval()(x)
    layer, weight = network.trunk[1].q, network.trunk[1].q.weight.clone()
    assert adapt(network, LORA) == ("trunk.0.q", "trunk.1.q")
    assert torch.equal(network.eval()(x), before), "B starts at 0"
    moved(network)
    own = dict(network.named_parameters())
    a, b = own["trunk.1.q.lora_A.default.weight"], own["trunk.1.q.lora_B.default.weight"]
    assert a.shape == (2, 6) and b.shape == (6, 2)
    expected = x @ weight.T + layer.bias + 3.0 / 2 * (x @ a.T @ b.T)
    torch.testing.assert_close(network.trunk[1].q(x), expected)


def test_adapters_and_named_parts_alone_train_and_the_base_keeps_every_bit(x: torch.Tensor) -> None:
    network = net()
    base = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    adapt(network, LORA)
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    adapters = {f"trunk.{n}.q.lora_{m}.default.weight" for n in range(2) for m in "AB"}
    assert trained == adapters | {"head.0.weight", "head.0.bias", "head.1.weight", "head.1.bias"}
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        network.train()(x).square().sum().backward()
        optimizer.step()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == (name in trained), name
    after = merged(network)
    kept = [name for name in base if not name.startswith("head") and ".q." not in name[6:]]
    assert len(kept) == 7 and all(torch.equal(after[name], base[name]) for name in kept)
    layers = [layer.q.get_base_layer() for layer in network.trunk]
    assert all(torch.equal(layer.weight, base[f"trunk.{n}.q.weight"]) for n, layer in enumerate(layers))
    buffers = {f"head.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert set(named_weights(network)) == set(network.state_dict()) == trained | buffers
    assert any(not torch.equal(network.state_dict()[name], base[name]) for name in buffers)


def test_merged_is_unmerged(x: torch.Tensor) -> None:
    network = net()
    adapt(network, LORA)
    moved(network).eval()
    plain = net(3)
    plain.load_state_dict(merged(network))
    torch.testing.assert_close(plain.eval()(x), network(x), atol=1e-5, rtol=0)


def test_switched_adapters_are_separate_networks(x: torch.Tensor) -> None:
    others = [replace(LORA, rank=3), Lora(rank=1, targets=("trunk.0",), train=("head",))]
    separate = []
    for seed, lora in enumerate(others):
        network = net()
        adapt(network, lora)
        separate.append(moved(network, seed).eval())
    shared = net()
    adapt(shared, LORA)
    for number, (lora, network) in enumerate(zip(others, separate, strict=True)):
        stored = network.state_dict()
        live = add(shared, lora, f"number{number}")
        assert live.keys() == {name for name in stored if ".lora_" in name}
        for name, tensor in live.items():
            tensor.copy_(stored[name])
    shared.eval()
    for number in (0, 1, 0):
        use(shared, f"number{number}")
        with torch.no_grad():
            for name, tensor in separate[number].head.state_dict().items():
                shared.head.state_dict()[name].copy_(tensor)
        assert torch.equal(shared(x), separate[number](x))


def test_what_is_not_of_the_base_is_kept() -> None:
    network = net()
    adapt(network, LORA, own=["q.bias", "trunk.0.q.bias"])
    kept = set(network.state_dict())
    assert {"q.bias", "trunk.0.q.base_layer.bias"} <= kept and "q.weight" not in kept


def test_adapters_of_a_half_precision_base_are_float32(x: torch.Tensor) -> None:
    network = net().bfloat16()
    network.head.float()
    adapt(network, LORA)
    assert {p.dtype for p in network.parameters() if p.requires_grad} == {torch.float32}
    assert network.trunk[0](x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": ("trnk",)}, r"lora.targets: 'trnk' matches no linear layer; did you mean 'trunk'\?"),
        ({"targets": ("trunk.*.k",)}, r"lora.targets: 'trunk.\*.k' matches no linear layer"),
        ({"targets": ("norm",)}, r"lora.targets: 'norm' matches no linear layer"),
        ({"train": ("haed",)}, r"lora.train: 'haed' matches no parameter; did you mean 'head'\?"),
        ({"targets": ("trunk", "head")}, r"lora: 'head.0' is among the targets and trains as a whole; one must do"),
    ],
)
def test_patterns_that_do_not_fit_are_named(changes: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(KinemaError, match=message):
        adapt(net(), replace(LORA, **changes))


def test_running_statistics_of_the_base_are_refused_unless_they_stand_still() -> None:
    network = net(norm=True)
    with pytest.raises(KinemaError, match=r"move the running statistics of 'norm' in the base\nfix: name it in"):
        adapt(network, LORA)
    adapt(copy.deepcopy(network), replace(LORA, train=("head", "norm")))
    network.norm.train = lambda mode=True: network.norm  # type: ignore[method-assign]
    network.norm.training = False
    adapt(network, LORA)


@pytest.mark.parametrize("changes", [{"rank": 0}, {"alpha": 0.0}, {"dropout": 1.0}, {"targets": ()}])
def test_values_out_of_range_are_named(changes: dict[str, float]) -> None:
    with pytest.raises(KinemaError, match=r"lora: rank .* is out of range"):
        Lora(**changes)


def test_the_digest_is_of_names_and_numbers() -> None:
    one = digest({"a": torch.ones(2), "b": torch.zeros(2)})
    assert one == digest({"b": torch.zeros(2), "a": torch.ones(2)}) and len(one) == 64
    others = [
        {"a": torch.ones(2)},
        {"a": torch.ones(2), "c": torch.zeros(2)},
        {"a": torch.ones(2), "b": -torch.zeros(2)},
    ]
    assert len({one, *map(digest, others)}) == 4
