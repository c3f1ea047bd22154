"""The causal decoder: step by step equals all at once, nothing comes from the future or from what is masked."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kinema.core.errors import KinemaError
from kinema.nets.base import Context
from kinema.nets.causal_decoder import CausalDecoder

BATCH, LENGTH, VOCABULARY, WIDTH = 3, 7, 11, 16


@pytest.fixture
def decoder() -> CausalDecoder:
    torch.manual_seed(0)
    made = CausalDecoder(vocabulary=VOCABULARY, length=LENGTH, width=WIDTH, blocks=3, heads=4)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.2 * torch.randn(parameter.shape)
    return made.eval()


@pytest.fixture
def context() -> Context:
    rng = torch.Generator().manual_seed(1)
    mask = torch.ones(BATCH, 5, dtype=torch.bool)
    mask[1, 2:] = False
    return Context(tokens=torch.randn(BATCH, 5, WIDTH, generator=rng), mask=mask, readout={})


def rows() -> Tensor:
    return torch.randint(VOCABULARY, (BATCH, LENGTH), generator=torch.Generator().manual_seed(2))


ALL = torch.ones(BATCH, LENGTH, dtype=torch.bool)


def test_one_by_one_with_kept_keys_equals_all_at_once(decoder: CausalDecoder, context: Context) -> None:
    whole = decoder(rows(), ALL, context)
    memory, before = decoder.remember(context), None
    for index in range(LENGTH):
        logits, memory = decoder.step(before, index, memory)
        assert (logits - whole[:, index]).abs().max() <= 1e-5
        before = rows()[:, index]
    assert whole.abs().max() > 0.5, "the logits are not trivially equal"


def test_logits_depend_on_earlier_tokens_only(decoder: CausalDecoder, context: Context) -> None:
    whole = decoder(rows(), ALL, context)
    for changed in range(LENGTH):
        other = rows()
        other[:, changed] = (other[:, changed] + 1) % VOCABULARY
        differs = (decoder(other, ALL, context) - whole).abs().amax((0, 2)) > 1e-6
        assert differs.tolist() == [index > changed for index in range(LENGTH)]


def test_absent_tokens_tell_nothing(decoder: CausalDecoder, context: Context) -> None:
    present = ALL.clone()
    present[:, 2] = False
    other = rows()
    other[:, 2] = (other[:, 2] + 1) % VOCABULARY
    assert torch.equal(decoder(rows(), present, context), decoder(other, present, context))
    assert not torch.equal(decoder(rows(), ALL, context), decoder(other, ALL, context))


def test_masked_context_is_not_read(decoder: CausalDecoder, context: Context) -> None:
    tokens = context.tokens.clone()
    tokens[:, 3] *= -1.0
    positions = torch.zeros(5, WIDTH)
    positions[3, :4] = 1.0
    for changed in (replace(context, tokens=tokens), replace(context, positions=positions)):
        differs = (decoder(rows(), ALL, changed) - decoder(rows(), ALL, context)).abs().amax((1, 2)) > 1e-6
        assert differs.tolist() == [True, False, True], "the second entry's token is masked"


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(KinemaError, match="width 16 must be a multiple of heads 3"):
        CausalDecoder(vocabulary=2, length=2, width=16, blocks=1, heads=3)
