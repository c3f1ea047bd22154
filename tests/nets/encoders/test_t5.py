"""The frozen T5 against `transformers`, with a tiny random model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import T5EncoderModel

from kinema.core.errors import CheckpointError, KinemaError
from kinema.core.spec import ObservationSpec
from kinema.nets.encoders.t5 import T5, FrozenT5

SPEC = ObservationSpec(instruction=True)


@pytest.fixture(scope="module")
def folder(tiny_t5: Callable[..., Path]) -> Path:
    return tiny_t5()


def test_tokens_are_the_projected_word_pieces_and_what_follows_is_absent(folder: Path) -> None:
    encoder = T5(model=str(folder), length=6).build(SPEC, obs_horizon=2, width=8)
    made = encoder({"instruction": ["open the drawer", "push"]}, None)
    ids = FrozenT5(folder, None)._tokenizer.encode("open the drawer")
    assert len(ids) == 4 and ids[-1] == 1, "a mark ends the text"
    assert made.mask.tolist() == [[True] * 4 + [False] * 2, [True] * 2 + [False] * 4]
    model = T5EncoderModel.from_pretrained(folder).eval()
    padded = torch.tensor([[*ids, 0, 0]])
    with torch.no_grad():
        hidden = model(input_ids=padded, attention_mask=(padded > 0).long()).last_hidden_state[0, :4]
    assert torch.allclose(made.values[0, :4], encoder.project(hidden), atol=1e-5)


def test_only_the_projection_is_trained_and_stored(folder: Path) -> None:
    encoder = T5(model=str(folder)).build(SPEC, obs_horizon=1, width=8)
    assert set(encoder.state_dict()) == {"project.weight", "project.bias"} and encoder.tokens == 16


def test_another_digest_is_refused(folder: Path) -> None:
    pinned = T5(model=str(folder)).pinned()
    assert pinned.sha256 is not None and len(pinned.sha256) == 64 and pinned.pinned() == pinned
    with pytest.raises(CheckpointError, match="expected 0000"):
        T5(model=str(folder), sha256="0000").build(SPEC, obs_horizon=1, width=8)


def test_what_cannot_be_read_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json does not exist"):
        T5(model=str(tmp_path)).build(SPEC, obs_horizon=1, width=8)
    encoder = T5(model=str(folder), length=3).build(SPEC, obs_horizon=1, width=8)
    with pytest.raises(KinemaError, match="'open the drawer' has 4 word pieces, more than the encoder's length 3"):
        encoder({"instruction": ["open the drawer"]}, None)
    with pytest.raises(KinemaError, match="the instruction is ' '; expected a text"):
        encoder({"instruction": [" "]}, None)
    with pytest.raises(KinemaError, match="length 0 is below 1"):
        T5(model=str(folder), length=0).build(SPEC, obs_horizon=1, width=8)
