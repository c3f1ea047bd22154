"""Whole numbers to tokens and back: nothing is lost, whatever the fit saw."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinema.actions.byte_pairs import BytePairs
from kinema.core.config import from_data, to_data
from kinema.core.errors import KinemaError

RNG = np.random.default_rng(0)
ROWS = [np.concatenate([RNG.integers(0, 350, 5), [40, 41, 40, 41, 0, 0, 0]]) for _ in range(200)] + [np.array([350])]
PAIRS = BytePairs.fit(ROWS, size=700)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 350), max_size=60))
def test_every_row_of_the_range_comes_back_bit_by_bit(row: list[int]) -> None:
    tokens = np.array(PAIRS.encode(np.array(row, np.int64)), np.int64)
    back = PAIRS.decode(tokens)
    assert back is not None and back.dtype == np.int64 and back.tolist() == row
    assert ((tokens >= 0) & (tokens < len(PAIRS.vocabulary))).all()


def test_what_repeats_becomes_one_token() -> None:
    assert len(PAIRS.encode(np.array([40, 41, 40, 41]))) == 1
    assert len(PAIRS.encode(np.array([41, 40, 200, 13]))) > 2
    assert PAIRS.largest == 350 and len(PAIRS.vocabulary) <= 700


def test_a_fit_knows_numbers_that_it_did_not_see() -> None:
    """Bytes of 1 to 32 have no entry of their own in the published fit, unless a row held them."""
    few = BytePairs.fit([np.array([0, 90, 0, 90])] * 3, size=400)
    for number in range(91):
        back = few.decode(np.array(few.encode(np.array([number]))))
        assert back is not None and back.tolist() == [number]
    byte_5 = chr(256 + 5)
    published = BytePairs(vocabulary=tuple(entry for entry in few.vocabulary if entry != byte_5), merges=few.merges)
    with pytest.raises(KinemaError, match="a number has no entry"):
        published.encode(np.array([90, 5]))


def test_bytes_that_are_no_character_are_no_numbers() -> None:
    lead = PAIRS.vocabulary.index("Ä")
    assert PAIRS.decode(np.array([lead])) is None
    assert PAIRS.decode(np.array([], np.int64)).tolist() == []


def test_tables_of_another_kind_are_refused() -> None:
    assert from_data(json.loads(json.dumps(to_data(PAIRS)))) == PAIRS
    with pytest.raises(KinemaError, match="numbers up to 350 leave no room for pairs among 300 entries"):
        BytePairs.fit(ROWS, size=300)
    with pytest.raises(KinemaError, match="a merge joins what is not in the vocabulary"):
        BytePairs(vocabulary=("a", "b"), merges=(("a", "b"),))
    with pytest.raises(KinemaError, match="or an entry is there twice"):
        BytePairs(vocabulary=("a", "a"), merges=())
    level = {"type": "ByteLevel", "add_prefix_space": False}
    old = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}, "added_tokens": []}
    assert BytePairs.from_json(old | {"pre_tokenizer": level}).merges == (("a", "b"),)
    for wrong in (
        {"pre_tokenizer": level | {"add_prefix_space": True}},
        {"pre_tokenizer": level, "added_tokens": [{"id": 3}]},
        {"pre_tokenizer": level, "model": old["model"] | {"vocab": {"a": 0, "b": 2, "ab": 3}}},
        {"pre_tokenizer": level, "model": old["model"] | {"type": "Unigram"}},
    ):
        with pytest.raises(ValueError, match=r"expected byte-level byte pairs|ids are not 0, 1, 2"):
            BytePairs.from_json(old | wrong)
