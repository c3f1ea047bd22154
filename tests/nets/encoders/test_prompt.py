"""Prompts become words of a fixed number; what does not fit is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from tokenizers import models

from kinema.core.errors import CheckpointError, KinemaError
from kinema.core.spec import ObservationSpec
from kinema.nets.encoders.prompt import Prompt, PromptEncoder

SPEC = ObservationSpec(cameras=(), vectors=(), instruction=True)


def built(config: Prompt) -> PromptEncoder:
    return config.build(SPEC, obs_horizon=1, width=8)


def test_words_stand_first_and_the_rest_is_absent() -> None:
    encoder = built(Prompt(length=5))
    made = encoder({"instruction": ["go", "stop"]}, None)
    assert made.ids is not None and made.ids.tolist() == [[256, 103, 111, -1, -1], [256, 115, 116, 111, 112]]
    assert made.mask.tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert made.values.shape == (2, 5, 8) and not made.values.any()
    assert encoder.vocabulary == 258 and encoder.tokens == 5 and encoder.steps == 0
    assert not encoder.state_dict()


@pytest.mark.parametrize("text", ["", "  \n", None])
def test_an_empty_instruction_is_refused(text: str | None) -> None:
    with pytest.raises(KinemaError, match=r"instruction of batch entry 1 is .*expected a text"):
        built(Prompt())({"instruction": ["go", text]}, None)


def test_a_text_that_is_too_long_is_refused_with_both_numbers() -> None:
    with pytest.raises(KinemaError, match="'open the drawer' has 16 words, more than the encoder's length 15"):
        built(Prompt(length=15))({"instruction": ["open the drawer"]}, None)
    assert built(Prompt(length=16))({"instruction": ["open the drawer"]}, None).mask.all()
    with pytest.raises(KinemaError, match="length 0 is below 1"):
        built(Prompt(length=0))


def test_a_tokenizer_file_is_pinned(tmp_path: Path) -> None:
    assert Prompt().pinned() == Prompt()
    tokenizers.Tokenizer(models.WordLevel({"go": 4, "?": 0}, unk_token="?")).save(str(tmp_path / "tokenizer.json"))
    pinned = Prompt(tokenizer=str(tmp_path), length=2).pinned()
    assert pinned.sha256 is not None and len(pinned.sha256) == 64 and pinned.pinned() == pinned
    made = built(pinned)({"instruction": ["go"]}, None)
    assert made.ids is not None and torch.equal(made.ids, torch.tensor([[4, -1]]))
    tokenizers.Tokenizer(models.WordLevel({"go": 3, "?": 0}, unk_token="?")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CheckpointError, match=f"expected {pinned.sha256}"):
        built(pinned)


def test_the_first_word_and_the_rest_can_stand_apart() -> None:
    first, rest = (built(Prompt(part=part, length=5)) for part in ("first", "rest"))
    sample = {"instruction": ["go", "stop"]}
    assert first(sample, None).ids.tolist() == [[256, -1, -1, -1, -1]] * 2
    assert rest(sample, None).ids.tolist() == [[103, 111, -1, -1, -1], [115, 116, 111, 112, -1]]
    with pytest.raises(KinemaError, match=r"instruction of batch entry 0 is ' '; expected a text"):
        first({"instruction": [" "]}, None)
    with pytest.raises(KinemaError, match=r"unknown part of a prompt 'frst'; did you mean 'first'\?"):
        built(Prompt(part="frst"))  # type: ignore[arg-type]


@pytest.mark.parametrize("part", ["first", "rest"])
def test_a_tokenizer_without_a_mark_at_the_beginning_cannot_be_parted(part: Any, tmp_path: Path) -> None:
    tokenizers.Tokenizer(models.WordLevel({"go": 4, "?": 0}, unk_token="?")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(KinemaError, match=f"an empty text has 0 words by .*; part '{part}' expects one, the mark"):
        built(Prompt(tokenizer=str(tmp_path), part=part))
