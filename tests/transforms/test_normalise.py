"""Normalisation by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kinema.core.errors import KinemaError
from kinema.transforms.normalise import Normalise

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
    ],
)
def test_by_hand_with_a_constant_component(mode: str, expected: list[list[float]]) -> None:
    transform = Normalise(modes={"action": mode}).fit(STATISTICS)
    scaled, memo = transform.forward({"action": ACTION})
    assert scaled["action"].dtype == np.float32 and scaled["action"][0].tolist() == expected
    assert np.array_equal(transform.inverse(scaled["action"], memo), ACTION)


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
