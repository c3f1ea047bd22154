"""Sizes against published counts of parameters, and what a size refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kinema.core.config import from_data, to_data
from kinema.core.errors import KinemaError
from kinema.nets.base import Group
from kinema.nets.language.decoder import DecoderModel
from kinema.nets.language.sizes import (
    GEMMA_2B,
    GEMMA_300M,
    LLAMA_2_7B,
    PALIGEMMA_2B,
    SMOLLM2_1B7,
    SMOLLM2_135M,
    SMOLLM2_360M,
    TINY,
    Decoder,
)
from kinema.nets.trunks.language_model import LanguageModel


@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        # "Total params" of the safetensors on each model's page, a tied embedding counted once.
        (LLAMA_2_7B, 6_738_415_616),
        (GEMMA_2B, 2_506_172_416),
        (SMOLLM2_135M, 134_515_008),
        (SMOLLM2_360M, 361_821_120),
        (SMOLLM2_1B7, 1_711_376_384),
    ],
)
def test_a_published_size_has_the_published_parameters(size: Decoder, parameters: int) -> None:
    with torch.device("meta"):
        trunk = LanguageModel(size=size).build([Group(name="instruction", tokens=3)], width=size.width)
    assert sum(weight.numel() for weight in trunk.parameters()) == parameters


def test_sizes_of_pi0() -> None:
    """By hand: each of 18 layers has q and o, k and v, a gated MLP and two norms; one more norm ends the model."""
    layer = 2 * 1024 * 8 * 256 + 2 * 1024 * 256 + 3 * 1024 * 4096 + 2 * 1024
    with torch.device("meta"):
        expert, trunk = DecoderModel(GEMMA_300M), DecoderModel(PALIGEMMA_2B)
    assert sum(weight.numel() for weight in expert.parameters()) == 18 * layer + 1024 == 311_464_960
    assert sum(weight.numel() for weight in trunk.parameters()) == 2_506_172_416 + (257_152 - 256_000) * 2048


def test_truncation_keeps_all_else() -> None:
    assert TINY.truncated(None) == TINY.truncated(4) == TINY
    assert TINY.truncated(2) == replace(TINY, layers=2)
    for layers in (0, 5):
        with pytest.raises(KinemaError, match=f"layers {layers} is outside 1 to 4"):
            TINY.truncated(layers)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(KinemaError, match="heads 4 must be a multiple of kv_heads 3"):
        replace(TINY, kv_heads=3)
    with pytest.raises(KinemaError, match="head_width 31 an even number"):
        replace(TINY, head_width=31)
    with pytest.raises(KinemaError, match="size below 1"):
        replace(TINY, layers=0)
    with pytest.raises(KinemaError, match="unknown family of a decoder 'lama'; did you mean 'llama'"):
        replace(TINY, family="lama")
    assert from_data(to_data(TINY)) == TINY
