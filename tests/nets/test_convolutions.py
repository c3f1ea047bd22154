"""Convolutions as products are torch's convolutions, and so are their gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kinema.nets.convolutions import FEW, Conv1d, ConvTranspose1d

CASES = {
    "same length": (Conv1d, nn.Conv1d, {"kernel_size": 5, "padding": 2}),
    "one step": (Conv1d, nn.Conv1d, {"kernel_size": 1}),
    "halved": (Conv1d, nn.Conv1d, {"kernel_size": 3, "stride": 2, "padding": 1}),
    "doubled": (ConvTranspose1d, nn.ConvTranspose1d, {"kernel_size": 4, "stride": 2, "padding": 1}),
}


@pytest.mark.parametrize("length", [2, 4, 7, FEW])
@pytest.mark.parametrize("case", CASES)
def test_results_and_gradients_are_torchs(case: str, length: int) -> None:
    kind, torchs, sizes = CASES[case]
    torch.manual_seed(0)
    ours, theirs = kind(6, 3, **sizes), torchs(6, 3, **sizes)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 6, length)
    found, expected = ours(x), theirs(x)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-6
    found.square().sum().backward()
    expected.square().sum().backward()
    for name, parameter in theirs.named_parameters():
        assert (ours.get_parameter(name).grad - parameter.grad).abs().max() <= 1e-4, name


@pytest.mark.parametrize("case", CASES)
def test_half_precision_stays(case: str) -> None:
    kind, torchs, sizes = CASES[case]
    torch.manual_seed(0)
    ours, theirs = kind(6, 3, **sizes), torchs(6, 3, **sizes)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(1, 6, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, expected = ours(x), theirs(x)
    assert found.dtype == expected.dtype == torch.bfloat16
    assert (found - expected).abs().max() <= 0.03
