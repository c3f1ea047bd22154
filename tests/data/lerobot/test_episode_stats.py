"""Statistics of parts merge to the statistics of the whole."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kinema.data.lerobot.episode_stats import from_nested, merge, of_images, of_rows, to_nested


@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=6),
    seed=st.integers(0, 999),
    offset=st.sampled_from([0.0, 1e4]),
)
@settings(max_examples=60, deadline=None)
def test_merge_is_exact(sizes: list[int], seed: int, offset: float) -> None:
    rng = np.random.default_rng(seed)
    parts = [rng.normal(size=(size, 3)) * [1, 5, 0] + offset for size in sizes]
    total = None
    for part in parts:
        total = merge(total, of_rows(part))
    whole = of_rows(np.concatenate(parts))
    assert total is not None
    for name in ("mean", "std", "min", "max", "count"):
        assert np.allclose(total[name], whole[name], rtol=1e-10, atol=1e-9), name
    assert ((total["min"] <= total["q01"]) & (total["q01"] <= total["q50"]) & (total["q99"] <= total["max"])).all()


def test_by_hand() -> None:
    stats = of_rows(np.array([[1.0, 7.0], [3.0, 7.0]]))
    assert stats["mean"].tolist() == [2.0, 7.0] and stats["std"].tolist() == [1.0, 0.0]
    assert stats["q50"].tolist() == [2.0, 7.0] and stats["count"].tolist() == [2]


def test_images() -> None:
    frames = np.zeros((4, 10, 10, 3), np.uint8)
    frames[..., 0], frames[2:, ..., 1] = 255, 51
    stats = of_images(frames)
    assert stats["mean"].shape == (3, 1, 1) and stats["count"].tolist() == [4]
    assert np.allclose(stats["mean"].ravel(), [1.0, 0.1, 0.0])
    assert np.allclose(stats["std"].ravel(), [0.0, 0.1, 0.0])
    assert np.allclose(stats["max"].ravel(), [1.0, 0.2, 0.0]) and np.allclose(stats["q99"].ravel(), [1.0, 0.2, 0.0])


def test_json_round_trip_is_exact() -> None:
    stats = {"a": of_rows(np.random.default_rng(0).normal(size=(5, 2)))}
    back = from_nested(to_nested(stats))
    assert all(np.array_equal(back["a"][name], stats["a"][name]) for name in stats["a"])
