"""Attention is torch's, number for number; what a layer leaves out it may leave out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kinema.nets.detr import Attention, DecoderLayer, EncoderLayer

SIZES = {"heads": 2, "hidden": 12, "dropout": 0.0}


def present() -> torch.Tensor:
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1, 2:] = False
    return mask


@pytest.mark.parametrize("masked", [False, True])
def test_attention_and_its_gradient_are_torchs(masked: bool) -> None:
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(8, 2, batch_first=True)
    torch.manual_seed(0)
    ours = Attention(8, heads=2, dropout=0.0)
    for name, parameter in theirs.named_parameters():
        assert torch.equal(parameter, ours.get_parameter(name)), f"{name} begins as torch's"
    with torch.no_grad():
        theirs.in_proj_bias.normal_()
    ours.load_state_dict(theirs.state_dict())
    query, key, value = torch.randn(3, 4, 8), torch.randn(3, 5, 8), torch.randn(3, 5, 8)
    mask = present() if masked else None
    expected = theirs(query, key, value, key_padding_mask=None if mask is None else ~mask, need_weights=False)[0]
    found = ours(query, key, value, mask)
    assert (found - expected).abs().max() <= 1e-6
    expected.square().sum().backward()
    found.square().sum().backward()
    for name, parameter in theirs.named_parameters():
        assert (parameter.grad - ours.get_parameter(name).grad).abs().max() <= 1e-5, name


def test_attention_drops_out_in_training_only() -> None:
    torch.manual_seed(0)
    attention, x = Attention(8, heads=2, dropout=0.5), torch.randn(2, 5, 8)
    assert not torch.equal(attention(x, x, x, None), attention(x, x, x, None))
    attention.eval()
    assert torch.equal(attention(x, x, x, None), attention(x, x, x, None))


def test_the_first_tokens_alone_are_those_of_all() -> None:
    torch.manual_seed(0)
    layer, x, positions = EncoderLayer(8, **SIZES), torch.randn(3, 5, 8), torch.randn(5, 8)
    all_of_them = layer(x, positions, present())
    assert (layer(x, positions, present(), first=1) - all_of_them[:, :1]).abs().max() <= 1e-6


def test_one_start_stands_for_all_entries() -> None:
    torch.manual_seed(0)
    layer, queries = DecoderLayer(8, **SIZES), torch.randn(4, 8)
    memory, keys, start = torch.randn(3, 5, 8), torch.randn(3, 5, 8), torch.randn(1, 4, 8)
    each = layer(start.expand(3, -1, -1), queries, memory, keys, present())
    assert (layer(start, queries, memory, keys, present()) - each).abs().max() <= 1e-6
