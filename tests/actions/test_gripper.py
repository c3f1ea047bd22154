"""Grippers: conventions that look alike and mean the opposite."""

from __future__ import annotations

import numpy as np
import pytest

from kinema.actions.gripper import Gripper, convert_gripper
from kinema.core.errors import KinemaError

WIDTH = Gripper(open=0.08, closed=0.0, unit="m")


def test_the_words_are_those_of_action_specs() -> None:
    assert Gripper(open=-1.0, closed=1.0, commands="effort").words == "+1 closes, -1 opens"
    assert Gripper(open=1.0, closed=0.0).words == "0 closed, 1 open"
    assert WIDTH.words == "0 m closed, 0.08 m open"


def test_open_stays_open_and_half_stays_half() -> None:
    bridge, droid = Gripper(open=1.0, closed=0.0), Gripper(open=0.0, closed=1.0)
    np.testing.assert_allclose(convert_gripper(np.array([0.0, 0.25, 1.0]), bridge, droid), [1, 0.75, 0])
    np.testing.assert_allclose(convert_gripper(np.array([0.0, 0.5, 1.0]), bridge, WIDTH), [0, 0.04, 0.08])
    signed = Gripper(open=-1.0, closed=1.0)
    back = convert_gripper(convert_gripper(np.array([-1.0, 0.2, 1.3]), signed, WIDTH), WIDTH, signed)
    np.testing.assert_allclose(back, [-1, 0.2, 1.3])


def test_a_push_is_not_a_place() -> None:
    push = Gripper(open=-1.0, closed=1.0, commands="effort")
    with pytest.raises(KinemaError, match=r"effort \(\+1 closes, -1 opens\) cannot become position \(0 m closed"):
        convert_gripper(np.zeros(3), push, WIDTH)
    other = Gripper(open=1.0, closed=-1.0, commands="effort")
    np.testing.assert_allclose(convert_gripper(np.array([1.0]), push, other), -1)
    with pytest.raises(KinemaError, match=r"open and closed are both 1\.0"):
        Gripper(open=1.0, closed=1.0)


def test_an_unknown_kind_of_command_is_refused() -> None:
    with pytest.raises(KinemaError, match="unknown commands of a gripper 'postion'; did you mean 'position'"):
        Gripper(open=1.0, closed=0.0, commands="postion")  # type: ignore[arg-type]
