"""The recurrent trunk against the equations of an LSTM."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from kinema.core.errors import KinemaError
from kinema.nets.base import Group, Tokens
from kinema.nets.trunks.lstm import Lstm

GROUPS = (Group(name="seen", tokens=6, steps=3), Group(name="told", tokens=1), Group(name="felt", tokens=3, steps=3))
WIDTH = 5


def tokens(batch: int = 2) -> Tokens:
    values = torch.randn(batch, 10, WIDTH, generator=torch.Generator().manual_seed(1))
    mask = torch.rand(batch, 10, generator=torch.Generator().manual_seed(2)) > 0.2
    return Tokens(values, mask)


def by_steps(given: Tokens) -> torch.Tensor:
    """Write out what each step reads: two tokens seen, the one told, one felt."""
    values = given.values * given.mask[..., None]
    rows = [
        torch.cat([values[:, 2 * t], values[:, 2 * t + 1], values[:, 6], values[:, 7 + t]], dim=-1) for t in range(3)
    ]
    return torch.stack(rows, dim=1)


def test_forward_is_that_of_an_lstm_with_the_same_weights() -> None:
    trunk = Lstm().build(GROUPS, width=WIDTH)
    other = nn.LSTM(4 * WIDTH, WIDTH, num_layers=2, batch_first=True)
    other.load_state_dict(trunk.lstm.state_dict())
    context, (hidden, _) = trunk(tokens()), other(by_steps(tokens()))
    assert torch.equal(context.tokens, hidden) and torch.equal(context.readout["action"], hidden[:, -1:])
    assert context.mask.shape == (2, 3) and context.mask.all()


def test_forward_is_that_of_the_equations() -> None:
    trunk = Lstm(layers=1).build(GROUPS, width=WIDTH)
    weights = {name: value.detach().double().numpy() for name, value in trunk.lstm.named_parameters()}

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    state, cell = np.zeros((2, WIDTH)), np.zeros((2, WIDTH))
    for t in range(3):
        x = by_steps(tokens())[:, t].double().numpy()
        total = x @ weights["weight_ih_l0"].T + weights["bias_ih_l0"]
        total += state @ weights["weight_hh_l0"].T + weights["bias_hh_l0"]
        enter, forget, new, leave = np.split(total, 4, axis=1)
        cell = sigmoid(forget) * cell + sigmoid(enter) * np.tanh(new)
        state = sigmoid(leave) * np.tanh(cell)
    made = trunk(tokens()).readout["action"][:, 0].detach().numpy()
    assert np.abs(made - state).max() < 1e-6


def test_earlier_outputs_know_nothing_of_later_steps() -> None:
    trunk, given = Lstm().build(GROUPS, width=WIDTH), tokens()
    changed = Tokens(given.values.clone(), torch.ones_like(given.mask))
    before = trunk(changed).tokens
    changed.values[:, 4:6] += 1.0
    after = trunk(changed).tokens
    assert torch.equal(before[:, :2], after[:, :2]) and (before[:, 2] - after[:, 2]).abs().max() > 1e-3


def test_what_cannot_be_is_named() -> None:
    with pytest.raises(KinemaError, match=r"lstm: expected encoders .* got none"):
        Lstm().build([Group(name="told", tokens=1)], width=4)
    with pytest.raises(KinemaError, match="got seen 3, felt 2"):
        Lstm().build([Group(name="seen", tokens=3, steps=3), Group(name="felt", tokens=2, steps=2)], width=4)
    with pytest.raises(KinemaError, match=r"lstm: layers 1 .* dropout 0.1"):
        Lstm(layers=1, dropout=0.1).build(GROUPS, width=4)


def test_only_what_is_filled_is_read() -> None:
    groups = (Group(name="felt", tokens=3, steps=3, filled=2), Group(name="seen", tokens=3, steps=3))
    trunk = Lstm().build(groups, width=WIDTH)
    given = torch.randn(2, 6, WIDTH)
    assert trunk.lstm.input_size == 2 + WIDTH
    written = torch.cat([given[:, :3, :2], given[:, 3:]], dim=-1)
    assert torch.equal(trunk(Tokens.present(given)).tokens, trunk.lstm(written)[0])
