"""Zeros behind what a robot has, cut again exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kinema.core.config import from_data, to_data
from kinema.core.errors import KinemaError, SpecMismatch
from kinema.core.spec import ActionSpec, ObservationSpec, RobotSpec, Vector
from kinema.core.transform import Chain
from kinema.transforms.normalise import Normalise
from kinema.transforms.pad import Pad

JOINTS = Vector(name="joints", components=("a", "b", "c"), units=("rad",) * 3, frame="base")
ACTION = ActionSpec(
    components=("a", "b"), units=("rad",) * 2, frame="base", kind="joint position", integrator="controller",
    low=(-1.0, -1.0), high=(1.0, 1.0),
)  # fmt: skip
ROBOT = RobotSpec(embodiment="arm", rate_hz=10.0, observation=ObservationSpec(vectors=(JOINTS,)), action=ACTION)
PAD = Pad(widths={"action": 32, "vector.joints": 32})
STATISTICS = {
    "action": {"mean": np.array([1.0, 2.0]), "std": np.array([2.0, 4.0])},
    "vector.joints": {"mean": np.zeros(3), "std": np.ones(3)},
}


def sample() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    action, joints = rng.normal(size=(4, 5, 2)), rng.normal(size=(4, 1, 3))
    return {"action": action.astype(np.float32), "vector.joints": joints.astype(np.float32)}


def test_zeros_are_added_and_cut_exactly() -> None:
    fitted, given = PAD.fit(STATISTICS), sample()
    padded, memo = fitted.forward(given)
    assert padded["action"].shape == (4, 5, 32) and padded["vector.joints"].shape == (4, 1, 32)
    assert padded["action"].dtype == padded["vector.joints"].dtype == np.float32
    assert (padded["action"][..., 2:] == 0).all() and (padded["vector.joints"][..., 3:] == 0).all()
    assert np.array_equal(padded["vector.joints"][..., :3], given["vector.joints"])
    assert np.array_equal(fitted.inverse(padded["action"], memo), given["action"])
    assert to_data(from_data(to_data(fitted))) == to_data(fitted)


def test_zeros_are_zeros_of_what_the_network_sees() -> None:
    chain = Chain((Normalise(modes={"action": "mean_std", "vector.joints": "mean_std"}), PAD)).fit(STATISTICS)
    padded, memo = chain.forward(sample())
    assert (padded["action"][..., 2:] == 0).all()
    assert np.allclose(chain.inverse(padded["action"], memo), sample()["action"], atol=1e-6)
    assert chain.action_width(2) == 32


def test_components_that_a_robot_of_several_lacks_stay_so_and_added_ones_are_learnt() -> None:
    given = sample() | {"components.action": np.array([[True, False]] * 4)}
    padded, _ = PAD.fit(STATISTICS).forward(given)
    assert padded["components.action"].tolist() == [[True, False] + [True] * 30] * 4


def test_the_network_is_told_the_new_widths() -> None:
    seen = PAD.observed(ROBOT.observation)
    assert seen.shape("vector.joints") == (32,) and seen.vectors[0].components[:4] == ("a", "b", "c", "padding 0")
    assert PAD.action_width(2) == 32 and Pad(widths={"vector.joints": 4}).action_width(2) == 2
    assert PAD.reads == ("vector.joints",)
    PAD.check(ROBOT)


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(SpecMismatch, match=r"pad: 'vector\.joints' has 3 components, which do not fit into 2"):
        Pad(widths={"vector.joints": 2}).check(ROBOT)
    with pytest.raises(SpecMismatch, match="pad: 'action' has 2 components, which do not fit into 1"):
        Pad(widths={"action": 1}).check(ROBOT)
    with pytest.raises(SpecMismatch, match=r"no observation 'vector\.joint'; did you mean 'vector\.joints'"):
        Pad(widths={"vector.joint": 32}).check(ROBOT)
    with pytest.raises(KinemaError, match="fit the transform on data first"):
        PAD.forward(sample())
    with pytest.raises(KinemaError, match=r"pad: 'vector\.joints' is missing"):
        PAD.fit(STATISTICS).forward({"action": sample()["action"]})
    with pytest.raises(SpecMismatch, match="pad: 'action' has 2 components"):
        replace(PAD, widths={"action": 1}, own=1).forward(sample())
