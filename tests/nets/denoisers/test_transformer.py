"""The transformer is Diffusion Policy's, weight for weight, and looks at no later step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kinema.core.errors import KinemaError
from kinema.nets.base import Context
from kinema.nets.denoisers.transformer import Transformer, TransformerDenoiser

GOLDEN = Path(__file__).resolve().parents[2] / "goldens" / "denoisers" / "transformer.npz"
NAMES = (
    ("decoder.layers.", "layers."),
    ("encoder.", "remember."),
    ("cond_obs_emb.", "observe."),
    ("input_emb.", "enter."),
    ("ln_f.", "leave.0."),
    ("head.", "leave.1."),
)


def ours(name: str, value: Tensor) -> tuple[str, Tensor]:
    """Return our name and value; there the embedding of an observation is its position."""
    if name == "pos_emb":
        return "position", value[0]
    if name == "cond_pos_emb":
        return "kind_embedding", torch.cat([value[0], torch.zeros_like(value[0, :1])])
    for there, here in NAMES:
        if name.startswith(there):
            return name.replace(there, here, 1), value
    raise AssertionError(name)


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(GOLDEN) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def build(golden: dict[str, Tensor]) -> TransformerDenoiser:
    network = Transformer(layers=2, heads=2, hidden=16).build(action_width=2, pred_horizon=5, width=6)
    weights = {n.removeprefix("weights/"): value for n, value in golden.items() if n.startswith("weights/")}
    network.load_state_dict(dict(ours(name, value) for name, value in weights.items()), strict=True)
    return network


def context_of(golden: dict[str, Tensor]) -> Context:
    """Return the one observation step of the golden as readout, and no tokens."""
    batch = len(golden["readout"])
    return Context(torch.zeros(batch, 0, 6), torch.ones(batch, 0, dtype=torch.bool), {"action": golden["readout"]})


def test_forward_and_a_step_of_training_are_diffusion_policys(golden: dict[str, Tensor]) -> None:
    network, context, t = build(golden), context_of(golden), golden["k"] / 100
    before = network(golden["x"], t, context)
    assert (before - golden["before"]).abs().max() < 1e-5
    loss = torch.nn.functional.mse_loss(before, golden["noise"])
    assert loss.item() == pytest.approx(golden["loss"].item(), abs=1e-5)
    loss.backward()
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    assert (network(golden["x"], t, context) - golden["after"]).abs().max() < 1e-5
    assert (golden["after"] - golden["before"]).abs().max() > 1e-2, "the step changes something"


def test_with_a_token_for_each_observed_step_it_is_diffusion_policys_too() -> None:
    with np.load(GOLDEN.with_name("transformer_steps.npz")) as file:
        golden = {name: torch.from_numpy(file[name]) for name in file.files}
    network = Transformer(layers=2, heads=2, hidden=16, steps=2).build(action_width=2, pred_horizon=5, width=6)
    weights = {n.removeprefix("weights/"): value for n, value in golden.items() if n.startswith("weights/")}
    named = dict(ours(name, value) for name, value in weights.items())
    network.load_state_dict(named | {"kind_embedding": weights["cond_pos_emb"][0]}, strict=True)
    mask, t = torch.ones(3, 2, dtype=torch.bool), golden["k"] / 100

    def denoised(readout: Tensor) -> Tensor:
        return network(golden["x"], t, Context(readout, mask, {"action": readout}))

    before = denoised(golden["readout"])
    assert (before - golden["before"]).abs().max() < 1e-5
    newer = golden["readout"] + torch.tensor([0.0, 1.0])[:, None]
    changed = (denoised(newer) - before).abs().amax((0, 2))
    assert changed[0] == 0 and (changed[1:] > 1e-3).all(), "as published: step 0 sees no newer step than the first"
    torch.nn.functional.mse_loss(before, golden["noise"]).backward()
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    assert (denoised(golden["readout"]) - golden["after"]).abs().max() < 1e-5
    with pytest.raises(KinemaError, match="1 readout tokens for steps 2"):
        network(golden["x"], t, Context(newer[:, :1], mask[:, :1], {"action": newer[:, :1]}))


def test_a_step_depends_on_those_up_to_it_only(golden: dict[str, Tensor]) -> None:
    network, context, t = build(golden).eval(), context_of(golden), golden["k"] / 100
    before = network(golden["x"], t, context)
    for step in range(5):
        changed = golden["x"].clone()
        changed[:, step] += 3.0
        after = network(changed, t, context)
        assert torch.equal(after[:, :step], before[:, :step])
        assert ((after - before)[:, step:].abs().amax((0, 2)) > 1e-4).all()


def test_tokens_are_seen_where_present_with_their_positions(golden: dict[str, Tensor]) -> None:
    network, t = build(golden).eval(), golden["k"] / 100
    alone = context_of(golden)
    mask = torch.tensor([[True, True], [True, False], [False, False]])
    tokens = torch.randn(3, 2, 6, generator=torch.Generator().manual_seed(1))
    seen = network(golden["x"], t, replace(alone, tokens=tokens, mask=mask))
    difference = (seen - network(golden["x"], t, alone)).abs().amax((1, 2))
    assert difference[0] > 1e-3 and difference[1] > 1e-3 and difference[2] < 1e-5
    placed = replace(alone, tokens=tokens, mask=mask, positions=torch.ones(2, 6))
    shifted = replace(alone, tokens=tokens + 1.0, mask=mask)
    assert torch.allclose(network(golden["x"], t, placed), network(golden["x"], t, shifted), atol=1e-6)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(KinemaError, match="layers 0, heads 4 and steps None must be at least 1"):
        Transformer(layers=0).build(action_width=2, pred_horizon=4, width=8)
    with pytest.raises(KinemaError, match="hidden 18 even and a multiple of heads"):
        Transformer(hidden=18).build(action_width=2, pred_horizon=4, width=8)


@pytest.mark.parametrize("causal", [True, False])
def test_a_step_sees_later_ones_only_if_not_causal(causal: bool, golden: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    config = Transformer(layers=2, heads=2, hidden=16, causal=causal)
    network = config.build(action_width=2, pred_horizon=5, width=6)
    x, context, t = golden["x"], context_of(golden), golden["k"] / 100
    later = x.clone()
    later[:, 3] += 1.0
    moved = (network(later, t, context) - network(x, t, context)).abs().amax((0, 2))
    assert (moved[3:] > 0).all() and torch.equal(moved[:3] > 0, torch.full((3,), not causal))
