"""What all codecs have in common, as a head uses them: rows of tokens and back."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kinema.actions.bins import Bins
from kinema.actions.codec import Codec, vocabulary_ids, without_padding
from kinema.actions.fast import FAST
from kinema.actions.mu_law import MuLaw
from kinema.core.config import from_data, to_data
from kinema.core.errors import KinemaError

STEPS, WIDTH = 6, 3
CHUNKS = np.random.default_rng(0).uniform(-1, 1, (40, STEPS, WIDTH))
CODECS = {
    **{name: Bins(convention=name) for name in ("rt1", "openvla", "centred", "left_edge")},
    "mu_law": MuLaw(),
    "fast": FAST.fit(CHUNKS),
}
LARGEST = {"mu_law": 0.012, "fast": 0.05 * np.sqrt(STEPS)}
"""Error of one number; uniform bins have at most 2/255."""


@pytest.fixture(params=CODECS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_chunks_become_rows_and_come_back(name: str) -> None:
    codec = CODECS[name]
    rows = codec.encode_chunks(CHUNKS)
    assert rows.shape == (40, codec.length(STEPS, WIDTH)) and rows.dtype == np.int64
    assert 0 <= rows.min() and rows.max() < codec.size
    chunks, failed = codec.decode_chunks(rows, pred_horizon=STEPS, action_width=WIDTH)
    assert chunks.shape == CHUNKS.shape and chunks.dtype == np.float64
    assert failed.shape == (40,) and failed.dtype == bool and not failed.any()
    assert np.abs(chunks - CHUNKS).max() <= LARGEST.get(name, 2 / 255) + 1e-9
    again = codec.encode_chunks(chunks[5:6])
    alone, _ = codec.decode_chunks(again, pred_horizon=STEPS, action_width=WIDTH)
    np.testing.assert_allclose(alone[0], chunks[5], atol=0.008)


def test_rows_do_not_depend_on_the_batch(name: str) -> None:
    rows = CODECS[name].encode_chunks(CHUNKS)
    assert np.array_equal(CODECS[name].encode_chunks(CHUNKS[7:8])[0], rows[7])
    empty = CODECS[name].encode_chunks(CHUNKS[:0])
    assert empty.shape == (0, rows.shape[1]) if name == "fast" else len(empty) == 0


def test_an_end_ends_rows_of_varying_length_only(name: str) -> None:
    codec = CODECS[name]
    rows = codec.encode_chunks(CHUNKS)
    if codec.end is None:
        assert codec.length(STEPS, WIDTH) == STEPS * WIDTH
        return
    ended = rows == codec.end
    assert codec.end == codec.size - 1 and ended[:, -1].all(), "every row has an end"
    assert (ended == np.maximum.accumulate(ended, axis=1)).all(), "and nothing else behind it"
    assert len(set(ended.argmax(axis=1))) > 1, "rows of different lengths"
    noise = np.where(np.cumsum(ended, axis=1) > 1, 5, rows)
    same, _ = codec.decode_chunks(noise, pred_horizon=STEPS, action_width=WIDTH)
    assert np.array_equal(same, codec.decode_chunks(rows, pred_horizon=STEPS, action_width=WIDTH)[0])


def test_json_keeps_a_codec(name: str) -> None:
    codec: Codec = from_data(json.loads(json.dumps(to_data(CODECS[name]))))
    assert codec == CODECS[name]
    assert np.array_equal(codec.encode_chunks(CHUNKS), CODECS[name].encode_chunks(CHUNKS))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_has_no_token(name: str, bad: float) -> None:
    chunks = CHUNKS.copy()
    chunks[3, 2, 1] = bad
    with pytest.raises(KinemaError, match="finite"):
        CODECS[name].encode_chunks(chunks)


def test_tokens_that_do_not_exist_are_named(name: str) -> None:
    codec = CODECS[name]
    rows = codec.encode_chunks(CHUNKS[:1])
    for wrong in (-1, codec.size):
        with pytest.raises(KinemaError, match=rf"tokens .*expected 0 to {codec.size - 1 - (codec.end is not None)}"):
            codec.decode_chunks(np.where(np.arange(rows.shape[1]) == 0, wrong, rows), pred_horizon=6, action_width=3)
    with pytest.raises(KinemaError, match="float64, expected whole numbers"):
        codec.decode_chunks(rows.astype(float), pred_horizon=STEPS, action_width=WIDTH)


def test_a_row_of_another_chunk_is_named() -> None:
    with pytest.raises(KinemaError, match=r"Bins: tokens of shape \(1, 18\), expected \(1, 21\)"):
        CODECS["rt1"].decode_chunks(np.zeros((1, 18), np.int64), pred_horizon=7, action_width=3)


def test_padding_is_replaced_by_the_last_real_step() -> None:
    chunk = np.array([[[1.0, 10.0], [2.0, 20.0], [99.0, 99.0], [4.0, 40.0], [np.nan, np.inf]]])
    mask = np.array([[True, True, False, True, False]])
    expected = [[1, 10], [2, 20], [2, 20], [4, 40], [4, 40]]
    assert without_padding(chunk, mask)[0].tolist() == expected
    late = np.array([[False, False, False, True, False]])
    assert without_padding(chunk, late)[0].tolist() == [[4, 40]] * 5, "at the start, by the first"
    components = mask[..., None] & np.array([True, False])
    assert without_padding(chunk, components)[0, :, 1].tolist() == [0] * 5, "a component that is all padding is 0"
    assert without_padding(chunk, np.zeros((1, 5), bool)).tolist() == np.zeros((1, 5, 2)).tolist()


def test_what_padding_holds_changes_no_token(name: str) -> None:
    mask = np.ones((40, STEPS), bool)
    mask[::2, 4:] = False
    rows = [
        CODECS[name].encode_chunks(without_padding(np.where(mask[..., None], CHUNKS, held), mask))
        for held in (0.0, 50.0, np.nan)
    ]
    assert np.array_equal(rows[0], rows[1]) and np.array_equal(rows[0], rows[2])


def test_ids_in_the_vocabularies_of_language_models() -> None:
    assert vocabulary_ids(np.array([0, 128, 255]), 32000).tolist() == [31999, 31871, 31744]
    ids = vocabulary_ids(np.array([0, 1, 1023]), 257152, reserved=128)
    assert ids.tolist() == [257023, 257022, 256000], "PaliGemma, as pi0-FAST uses it"
    assert vocabulary_ids(ids, 257152, reserved=128).tolist() == [0, 1, 1023]
