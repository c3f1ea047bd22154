"""Normalisation by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kinema.core.config import from_data, to_data
from kinema.core.errors import KinemaError
from kinema.transforms.normalise import MODES, Normalise

STATISTICS = {
    "action": {
        "mean": np.array([1.0, 5.0, -2.0]),
        "std": np.array([2.0, 0.0, 0.5]),
        "min": np.array([-1.0, 5.0, -4.0]),
        "max": np.array([3.0, 5.0, 0.0]),
        "q01": np.array([0.0, 5.0, -3.0]),
        "q99": np.array([2.0, 5.0, -1.0]),
    }
}
ACTION = np.array([[[2.0, 5.0, -1.0], [-1.0, 5.0, -4.0]]], np.float32)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("mean_std", [[0.5, 0.0, 2.0], [-1.0, 0.0, -4.0]]),
        ("min_max", [[0.5, 0.0, 0.5], [-1.0, 0.0, -1.0]]),
        ("quantile", [[1.0, 0.0, 1.0], [-2.0, 0.0, -2.0]]),
        ("quantile_clipped", [[1.0, 0.0, 1.0], [-1.0, 0.0, -1.0]]),
    ],
)
def test_by_hand_with_a_constant_component(mode: str, expected: list[list[float]]) -> None:
    transform = Normalise(modes={"action": mode}).fit(STATISTICS)
    scaled, memo = transform.forward({"action": ACTION})
    assert scaled["action"].dtype == np.float32 and scaled["action"][0].tolist() == expected
    inside = slice(0, 1 if mode == "quantile_clipped" else 2)
    assert np.array_equal(transform.inverse(scaled["action"], memo)[:, inside], ACTION[:, inside])


def table(rows: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    quantiles = {"q01": np.quantile(rows, 0.01, axis=0), "q99": np.quantile(rows, 0.99, axis=0)}
    ends = {"min": rows.min(0), "max": rows.max(0), "mean": rows.mean(0), "std": rows.std(0)}
    return {"action": ends | quantiles}


GAUSSIAN = np.random.default_rng(0).normal(size=(50_000, 4)) * [1.0, 20.0, 0.03, 5.0] + [0.0, 100.0, 0.0, -3.0]


def test_openpis_two_percent_outside_survive_and_openvlas_do_not() -> None:
    """The published formulas; both keep a small number in the divisor, which we do not need."""
    sample = {"action": GAUSSIAN[None].astype(np.float32)}
    low, high = (table(GAUSSIAN)["action"][name] for name in ("q01", "q99"))
    openpi = (GAUSSIAN - low) / (high - low + 1e-6) * 2 - 1
    openvla = np.clip(2 * (GAUSSIAN - low) / (high - low + 1e-8) - 1, -1, 1)
    open_, clipped = (
        Normalise(modes={"action": mode}).fit(table(GAUSSIAN)).forward(sample)[0]["action"][0]
        for mode in ("quantile", "quantile_clipped")
    )
    np.testing.assert_allclose(open_, openpi, atol=5e-5)
    np.testing.assert_allclose(clipped, openvla, atol=2e-5)
    assert (np.abs(open_) > 1).mean() == pytest.approx(0.02, abs=5e-4) and 1.7 < np.abs(open_).max() < 2.3
    assert np.abs(clipped).max() == 1.0


def test_a_gripper_that_is_kept_stays_as_it_is() -> None:
    rows = np.concatenate([GAUSSIAN[:, :2], np.repeat([[0.0], [3.0]], 25_000, axis=0)], axis=1)
    transform = Normalise(modes={"action": "quantile_clipped"}, keep={"action": (-1,)}).fit(table(rows))
    scaled, memo = transform.forward({"action": rows[None].astype(np.float32)})
    assert np.array_equal(scaled["action"][0, :, 2], rows[:, 2]), "neither scaled nor clipped"
    assert np.abs(scaled["action"][0, :, :2]).max() == 1.0
    assert np.array_equal(transform.inverse(scaled["action"], memo)[0, :, 2], rows[:, 2])
    assert from_data(to_data(transform)).keep == {"action": (-1,)}


@pytest.mark.parametrize("mode", MODES)
def test_the_inverse_is_exact_inside_the_range_for_any_scale(mode: str) -> None:
    statistics = table(GAUSSIAN)
    low, high = statistics["action"]["q01"], statistics["action"]["q99"]
    inside = np.clip(GAUSSIAN, low, high)[None].astype(np.float32)
    transform = Normalise(modes={"action": mode}).fit(statistics)
    scaled, memo = transform.forward({"action": inside})
    assert np.isfinite(scaled["action"]).all()
    error = np.abs(transform.inverse(scaled["action"], memo) - inside)
    assert (error <= 3e-7 * np.maximum(np.abs(inside), high - low)).all(), "a rounding or two of float32"


@pytest.mark.parametrize("mode", MODES)
def test_a_constant_is_finite_whatever_is_asked_of_it(mode: str) -> None:
    rows = np.full((100, 3), [0.0, 1e6, 1e-9], np.float64)
    transform = Normalise(modes={"action": mode}).fit(table(rows))
    scaled, memo = transform.forward({"action": rows[None].astype(np.float32)})
    assert np.abs(scaled["action"]).max() < 1e-6
    np.testing.assert_allclose(transform.inverse(scaled["action"], memo)[0], rows, rtol=1e-7)


def test_a_component_that_moves_seldom_is_no_constant() -> None:
    """A gripper that closes in half a percent of the steps would never close again."""
    rows = np.concatenate([GAUSSIAN[:, :1], (np.arange(50_000) % 200 == 0)[:, None]], axis=1)
    with pytest.raises(KinemaError, match=r"components \[1\] of 'action' move, but not between the quantiles"):
        Normalise(modes={"action": "quantile"}).fit(table(rows))
    Normalise(modes={"action": "quantile"}, keep={"action": (1,)}).fit(table(rows))
    Normalise(modes={"action": "min_max"}).fit(table(rows))


def test_constants_come_back_as_they_were_and_moving_ones_do_not() -> None:
    transform = Normalise(modes={"action": "min_max"}).fit(STATISTICS)
    restored = transform.inverse(np.zeros((1, 1, 3), np.float32), None)
    assert restored[0, 0].tolist() == [1.0, 5.0, -2.0], "zero is the middle of the range, and the constant"


@pytest.mark.parametrize("mode", ["min_max", "mean_std"])
def test_a_sampled_action_cannot_move_a_component_that_never_moved(mode: str) -> None:
    transform = Normalise(modes={"action": mode}).fit(STATISTICS)
    noise = np.full((1, 1, 3), 0.3, np.float32)
    assert transform.inverse(noise, None)[0, 0, 1] == 5.0


def test_other_keys_stay_and_actions_in_other_units_too() -> None:
    vector = {"vector.v": {"mean": np.array([1.0]), "std": np.array([4.0])}}
    transform = Normalise(modes={"vector.v": "mean_std"}).fit(vector)
    image = np.zeros((1, 1, 2, 2, 3), np.uint8)
    scaled, _ = transform.forward({"vector.v": np.array([[[9.0]]], np.float32), "image.x": image, "action": ACTION})
    assert scaled["vector.v"].item() == 2.0 and scaled["image.x"] is image and scaled["action"] is ACTION
    assert transform.inverse(ACTION, None) is ACTION


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda: Normalise(modes={"action": "mean-std"}),
            "unknown normalisation mode 'mean-std'; did you mean 'mean_std'",
        ),
        (
            lambda: Normalise(modes={"actoin": "min_max"}).fit(STATISTICS),
            "no statistics of 'actoin'; did you mean 'action'",
        ),
        (lambda: Normalise(modes={"action": "min_max"}).forward({"action": ACTION}), "no statistics for 'action'; fit"),
        (lambda: fitted().forward({"action": ACTION[..., :2]}), "for 3 components, the value has 2"),
        (lambda: fitted().inverse(ACTION[..., :2], None), "for 3 components, the value has 2"),
        (lambda: fitted().forward({"action": ACTION * np.nan}), "'action' holds a value that is not finite"),
        (lambda: fitted().inverse(ACTION * np.inf, None), "'action' holds a value that is not finite"),
        (
            lambda: Normalise(modes={"action": "min_max"}).fit({"action": STATISTICS["action"] | {"max": [1, np.nan]}}),
            "statistics of 'action' are not finite",
        ),
        (
            lambda: (
                Normalise(modes={"action": "min_max"}, keep={"action": (3,)})
                .fit(STATISTICS)
                .forward({"action": ACTION})
            ),
            "component 3 of 'action' is to be kept, it has 3",
        ),
        (
            lambda: Normalise(modes={"action": "min_max"}, keep={"actions": (1,)}),
            "unknown normalised key 'actions'; did you mean 'action'",
        ),
        (
            lambda: fitted("vector.v").forward({"vector.w": ACTION}),
            r"'vector\.v' is missing from the sample, .*vector\.w",
        ),
    ],
)
def test_refusals(act: Any, message: str) -> None:
    with pytest.raises(KinemaError, match=message):
        act()


def fitted(key: str = "action") -> Normalise:
    return Normalise(modes={key: "min_max"}).fit({key: STATISTICS["action"]})


@pytest.mark.parametrize("mode", MODES)
def test_what_never_changed_in_the_data_is_0_whatever_comes_later(mode: str) -> None:
    transform = Normalise(modes={"action": mode}).fit(STATISTICS)
    scaled, _ = transform.forward({"action": ACTION + np.array([0.0, 7.0, 0.0], np.float32)})
    assert (scaled["action"][..., 1] == 0).all() and (scaled["action"][..., 0] != 0).all()
