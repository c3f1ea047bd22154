"""FAST against the reference's own output, its compression of smooth motion, and what it says of broken rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.fft import dct

from kinema.actions.fast import FAST
from kinema.core.errors import KinemaError

CASES = ("joints", "bimanual", "noise")


@pytest.fixture(scope="module")
def goldens(request: pytest.FixtureRequest) -> Path:
    return request.config.rootpath / "tests" / "goldens" / "fast"


@pytest.fixture(scope="module")
def plus(goldens: Path) -> FAST:
    return FAST.from_directory(goldens / "plus", longest=200)


def stored(path: Path) -> tuple[dict[str, np.ndarray], list[list[int]]]:
    with np.load(path) as file:
        case = dict(file)
    case |= {name: case[name] / 4096 for name in ("fitted", "others")}
    return case, [row.tolist() for row in np.split(case["tokens"], np.cumsum(case["lengths"])[:-1])]


def minimum_jerk(count: int, steps: int, width: int, seed: int) -> np.ndarray:
    time = np.linspace(0, 1, steps)[None, :, None]
    start, end = np.random.default_rng(seed).uniform(-1, 1, (2, count, 1, width))
    return start + (end - start) * (10 * time**3 - 15 * time**4 + 6 * time**5)


@pytest.mark.parametrize("case", CASES)
def test_fit_encode_and_decode_equal_the_reference(goldens: Path, case: str) -> None:
    golden, rows = stored(goldens / f"{case}.npz")
    fast = FAST.fit(golden["fitted"])
    assert fast.lowest == golden["lowest"] and fast.size <= 1025
    assert len(rows) == 200 and [fast.encode(chunk).tolist() for chunk in golden["others"]] == rows
    steps, width = golden["others"].shape[1:]
    for row, decoded in zip(rows[:20], golden["decoded"], strict=True):
        own = fast.decode(np.array(row), pred_horizon=steps, action_width=width)
        np.testing.assert_allclose(own, decoded, atol=1e-12)


def test_a_published_directory_equals_the_reference(goldens: Path, plus: FAST) -> None:
    golden, rows = stored(goldens / "plus.npz")
    assert (plus.scale, plus.size, plus.lowest) == (20.0, 769, golden["lowest"])
    assert [plus.encode(chunk).tolist() for chunk in golden["others"]] == rows
    encoded = plus.encode_chunks(golden["others"])
    decoded, failed = plus.decode_chunks(encoded, pred_horizon=15, action_width=7)
    assert not failed.any()
    np.testing.assert_allclose(decoded[:20], golden["decoded"], atol=1e-12)


@pytest.mark.parametrize(
    ("steps", "width", "times", "rmse"),
    [(5, 7, 2.0, 0.0145), (15, 7, 5, 0.015), (20, 7, 5, 0.015), (50, 14, 13, 0.015)],
)
def test_smooth_motion_of_a_second_takes_few_tokens(steps: int, width: int, times: float, rmse: float) -> None:
    """At 5 Hz there is little to save; from 15 Hz on it is five times and more (Pertsch et al. 2025, table I)."""
    fast, others = FAST.fit(minimum_jerk(600, steps, width, 0)), minimum_jerk(100, steps, width, 1)
    rows = fast.encode_chunks(others)
    tokens = (rows != fast.end).sum(axis=1).mean()
    assert steps * width / tokens >= times
    assert (steps * width / tokens < 5) == (steps == 5), "the control: no five times at 5 Hz"
    chunks, _ = fast.decode_chunks(rows, pred_horizon=steps, action_width=width)
    error = np.sqrt(np.mean((chunks - others) ** 2))
    assert error / 2 <= rmse and error <= 1 / (fast.scale * np.sqrt(12)), "of the range, and of uniform rounding"


def test_noise_is_not_compressed_and_smoothness_is_what_is() -> None:
    """The transform is what saves: the same numbers in another order of steps take many more tokens."""
    smooth = minimum_jerk(600, 20, 7, 0)
    mixed = np.stack([chunk[np.random.default_rng(i).permutation(20)] for i, chunk in enumerate(smooth)])
    fitted = [(FAST.fit(chunks), chunks[:100]) for chunks in (smooth, mixed)]
    lengths = [(fast.encode_chunks(chunks) != fast.end).sum(axis=1).mean() for fast, chunks in fitted]
    assert lengths[1] > 2.5 * lengths[0]


def test_only_rounding_loses_anything() -> None:
    chunks = np.random.default_rng(0).normal(size=(300, 12, 5)) * 0.5
    fast = FAST.fit(chunks)
    decoded, _ = fast.decode_chunks(fast.encode_chunks(chunks), pred_horizon=12, action_width=5)
    whole = np.around(dct(chunks, axis=1, norm="ortho") * 10)
    assert np.array_equal(np.around(dct(decoded, axis=1, norm="ortho") * 10), whole), "every coefficient, exactly"
    assert np.abs(decoded - chunks).max() <= 0.05 * np.sqrt(12)
    finer = FAST.fit(chunks, scale=40, vocabulary=2048)
    again, _ = finer.decode_chunks(finer.encode_chunks(chunks), pred_horizon=12, action_width=5)
    assert np.abs(again - chunks).std() < 0.3 * np.abs(decoded - chunks).std()


def test_the_lowest_frequency_comes_first_and_a_constant_is_one_coefficient() -> None:
    fast = FAST.fit(np.random.default_rng(0).uniform(-1, 1, (200, 4, 2)))
    tokens = fast.encode(np.broadcast_to([0.5, -0.25], (4, 2)))
    numbers = fast.pairs.decode(tokens)
    assert numbers is not None and (numbers + fast.lowest).tolist() == [10, -5, 0, 0, 0, 0, 0, 0]  # 10 sqrt(4) 0.5


def test_numbers_that_no_chunk_of_the_fit_held_are_kept_and_those_beyond_are_the_nearest() -> None:
    """The published fit gives bytes that it did not meet no entry, and loses them without a word."""
    few = np.zeros((20, 4, 2))
    few[:, 0, 0] = np.where(np.arange(20) % 2, 2.0, -2.0)  # coefficients -10, 0 and 10 only
    fast = FAST.fit(few)
    chunk = np.full((4, 2), 0.35)  # 7, between
    np.testing.assert_allclose(fast.decode(fast.encode(chunk), pred_horizon=4, action_width=2), chunk, atol=1e-12)
    far = fast.decode(fast.encode(np.full((4, 2), 9.0)), pred_horizon=4, action_width=2)
    np.testing.assert_allclose(far, fast.highest / 10 / 2, atol=1e-12)


def test_rows_that_are_no_chunk_are_told_of_and_are_never_zeros(plus: FAST, goldens: Path) -> None:
    chunks = stored(goldens / "plus.npz")[0]["others"][:5]
    rows = plus.encode_chunks(chunks)
    rows[1] = plus.end  # nothing at all
    rows[2, 0] = plus.end  # ends before it began
    rows[3, 5:] = plus.end  # cut short
    lead = next(
        i for i, entry in enumerate(plus.pairs.vocabulary) if entry == "Ä"
    )  # the first byte of a character, alone
    rows[4, 0] = lead
    decoded, failed = plus.decode_chunks(rows, pred_horizon=15, action_width=7)
    assert failed.tolist() == [False, True, True, True, True]
    assert np.isnan(decoded[1:]).all() and np.isfinite(decoded[0]).all()
    with pytest.raises(KinemaError, match=r"FAST: 5 tokens are \d+ coefficients, expected 15 steps of 7"):
        plus.decode(rows[3, :5], pred_horizon=15, action_width=7)
    with pytest.raises(KinemaError, match="hold bytes that are no coefficient"):
        plus.decode(rows[4][rows[4] != plus.end], pred_horizon=15, action_width=7)
    assert plus.decode_chunks(rows[:1], pred_horizon=15, action_width=8)[1].all(), "of another width"


def test_sampled_rows_never_stop_the_caller(plus: FAST) -> None:
    rows = np.random.default_rng(0).integers(0, plus.size, (500, 30))
    chunks, failed = plus.decode_chunks(rows, pred_horizon=5, action_width=7)
    assert 0 < failed.sum() and np.array_equal(np.isnan(chunks).all((1, 2)), failed)


def test_what_cannot_be_fitted_or_encoded_is_named(plus: FAST) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(KinemaError, match="no chunks to fit"):
        FAST.fit([])
    with pytest.raises(KinemaError, match=r"coefficients -\d+ to \d+ have no room in a vocabulary of 1024: normalise"):
        FAST.fit(rng.normal(size=(50, 8, 2)) * 100)
    with pytest.raises(KinemaError, match=r"a chunk of shape \(8,\), expected \(H, A\) finite numbers"):
        FAST.fit(np.zeros((3, 8)))
    with pytest.raises(KinemaError, match=r"takes \d+ tokens even if nothing moves, at most 3"):
        replace(plus, longest=3).encode(np.ones((15, 7)))


def test_a_chunk_unlike_those_of_the_fit_loses_its_highest_frequencies() -> None:
    fast = FAST.fit(minimum_jerk(200, 15, 7, 0))
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 15, 7))
    rows = fast.encode_chunks(noise)
    assert rows.shape == (1, fast.longest + 1)
    chunk = fast.decode_chunks(rows, pred_horizon=15, action_width=7)[0][0]
    have, whole = (np.around(dct(each, axis=0, norm="ortho") * 10) for each in (chunk, noise[0]))
    kept = np.flatnonzero(have.any(axis=1)).max() + 1
    assert 1 < kept < 15 and np.array_equal(have[:kept], whole[:kept])


def test_a_table_that_does_not_fit_together_is_refused(plus: FAST, goldens: Path, tmp_path: Path) -> None:
    with pytest.raises(KinemaError, match=r"coefficients 3 to 1 of a table for .* at most 4 tokens"):
        FAST(pairs=plus.pairs, lowest=3, highest=1, longest=4)
    with pytest.raises(KinemaError, match=r"coefficients 0 to 9000 of a table for \d+, at most 4 tokens"):
        FAST(pairs=plus.pairs, lowest=0, highest=9000, longest=4)
    with pytest.raises(KinemaError, match="holds no FAST tokenizer: FileNotFoundError"):
        FAST.from_directory(tmp_path, longest=9)
    content = json.loads((goldens / "plus" / "tokenizer.json").read_text("utf-8"))
    (tmp_path / "processor_config.json").write_text((goldens / "plus" / "processor_config.json").read_text())
    for change in (
        {"pre_tokenizer": None},
        {"added_tokens": [{"id": 0}]},
        {"model": {**content["model"], "vocab": {}}},
    ):
        (tmp_path / "tokenizer.json").write_text(json.dumps(content | change))
        with pytest.raises(KinemaError, match="FAST"):
            FAST.from_directory(tmp_path, longest=9)
