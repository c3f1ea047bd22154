"""PID against scipy on the plant 1/(s² + s), and controllers of planar arms by hand; a whole arm is in tests/sim."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import signal

from kinema.actions.control import (
    HandReference,
    JointState,
    Pid,
    PidMemory,
    Reference,
    computed_torque,
    operational_space,
    pd,
    pd_with_gravity,
)
from kinema.core.errors import KinemaError

DT = 0.01
PLANT = (np.array([[0.0, 1.0], [0.0, -1.0]]), np.array([[0.0], [1.0]]), np.array([[1.0, 0.0]]), np.zeros((1, 1)))


def closed_loop(pid: Pid, set_point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return measurements and outputs over time, the plant stepped by its own closed form."""
    position = velocity = 0.0
    memory, measured, outputs = PidMemory(), [], []
    decay = np.exp(-DT)
    for wanted in set_point:
        measured.append(position)
        output, memory = pid.step(memory, wanted, position, DT)
        outputs.append(float(output))
        # ẍ = u - ẋ with u held: ẋ -> u + (ẋ - u) e^-t
        position, velocity = (
            position + output * DT + (velocity - output) * (1 - decay),
            output + (velocity - output) * decay,
        )
    return np.array(measured), np.array(outputs)


def test_the_closed_loop_agrees_with_scipy() -> None:
    pid = Pid(kp=4.0, ki=1.5, kd=2.0, filter_s=0.03)
    a, b, c, _, _ = signal.cont2discrete(PLANT, DT, method="zoh")
    keep, gain = 0.03 / (0.03 + DT), 2.0 / (0.03 + DT)
    # state: plant (2), integral, filtered derivative, measurement before
    whole = np.zeros((5, 5))
    output = np.array([*(-4.0 * c[0]) - gain * c[0], 1.0, keep, gain])
    whole[:2] = np.pad(a, ((0, 0), (0, 3))) + b @ output[None]
    whole[2] = [*(-1.5 * DT * c[0]), 1, 0, 0]
    whole[3] = [*(-gain * c[0]), 0, keep, gain]
    whole[4, :2] = c[0]
    enter = np.concatenate([b[:, 0] * 4.0, [1.5 * DT], [0, 0]])[:, None]
    system = signal.dlti(whole, enter, np.pad(c, ((0, 0), (0, 3))), np.zeros((1, 1)), dt=DT)
    rng = np.random.default_rng(0)
    set_point = np.repeat(rng.normal(size=10), 100)
    _, expected, _ = signal.dlsim(system, set_point)
    np.testing.assert_allclose(closed_loop(pid, set_point)[0], expected[:, 0], atol=1e-6)


def test_it_settles_where_the_continuous_loop_does() -> None:
    # kp/(s² + s + kp): damping 1/(2 √kp); kp = 1 gives overshoot exp(-π/√3) = 16.3 %
    measured, _ = closed_loop(Pid(kp=1.0), np.ones(3000))
    assert measured.max() == pytest.approx(1 + np.exp(-np.pi / np.sqrt(3)), abs=0.005)
    assert measured[-1] == pytest.approx(1, abs=1e-4)


def test_a_clamped_output_overshoots_at_most_a_third_with_anti_windup() -> None:
    def overshoot(tracking_s: float) -> float:
        pid = Pid(kp=4.0, ki=2.0, kd=3.0, low=-0.3, high=0.3, filter_s=0.02, tracking_s=tracking_s)
        measured, outputs = closed_loop(pid, np.full(6000, 2.0))
        assert np.abs(outputs).max() <= 0.3
        assert measured[-1] == pytest.approx(2.0, abs=0.02)
        return float(measured.max() - 2.0)

    assert overshoot(np.inf) > 0.5
    assert overshoot(0.5) <= overshoot(np.inf) / 3


def test_a_jump_of_the_set_point_does_not_kick() -> None:
    pid, memory = Pid(kp=2.0, kd=50.0, filter_s=0.0), PidMemory()
    for wanted in (0.0, 0.0, 1.0):
        output, memory = pid.step(memory, wanted, 0.0, DT)
    assert output == 2.0  # kp alone: of the error it would be 2 + 50 / 0.01
    output, _ = pid.step(memory, 1.0, 0.1, DT)
    assert output == pytest.approx(2.0 * 0.9 - 50 * 0.1 / DT)


def test_the_first_step_has_no_derivative() -> None:
    assert Pid(kp=0.0, kd=9.0).step(PidMemory(), 0.0, 5.0, DT)[0] == 0


def test_the_derivative_filter_by_hand() -> None:
    pid, memory = Pid(kp=0.0, kd=1.0, filter_s=0.03), PidMemory()
    outputs = []
    for measured in (0.0, 0.1, 0.1):
        output, memory = pid.step(memory, 0.0, measured, DT)
        outputs.append(float(output))
    np.testing.assert_allclose(outputs, [0, -0.1 / 0.04, 0.75 * -0.1 / 0.04])


def test_several_loops_at_once_are_each_alone() -> None:
    pid, memory, single = Pid(kp=1.0, ki=2.0, kd=0.1, filter_s=0.02, high=0.5, tracking_s=0.1), PidMemory(), PidMemory()
    for wanted in (1.0, -1.0, 0.3):
        both, memory = pid.step(memory, np.array([0.0, wanted]), np.array([0.2, 0.1 * wanted]), DT)
        alone, single = pid.step(single, wanted, 0.1 * wanted, DT)
        assert both[1] == alone


def test_settings_and_input_that_cannot_be_are_named() -> None:
    with pytest.raises(KinemaError, match="expected low < high"):
        Pid(kp=1.0, low=1.0, high=-1.0)
    with pytest.raises(KinemaError, match="a clamped integral needs tracking_s, or it winds up"):
        Pid(kp=1.0, ki=1.0, high=1.0)
    with pytest.raises(KinemaError, match="tracking_s pulls back an integral, and without ki there is none"):
        Pid(kp=1.0, high=1.0, tracking_s=0.1)
    with pytest.raises(KinemaError, match=r"PID: dt 0\.0 s, expected above 0"):
        Pid(kp=1.0).step(PidMemory(), 0.0, 0.0, 0.0)
    with pytest.raises(KinemaError, match="measurement nan is not finite"):
        Pid(kp=1.0).step(PidMemory(), 0.0, np.nan, DT)


def test_torques_by_hand(planar: Callable) -> None:
    arm = planar(2.0)  # 1 kg at 2 m: M = 4 kg m², gravity 9.81 · 2 · cos q
    state = JointState(joints_rad=np.array([np.pi / 3]), velocity_rad_s=np.array([0.5]))
    target = Reference(
        joints_rad=np.array([np.pi / 3 + 0.1]), velocity_rad_s=np.array([0.7]), acceleration_rad_s2=np.array([3.0])
    )
    np.testing.assert_allclose(pd(state, target, kp=10.0, kd=2.0), [10 * 0.1 + 2 * 0.2])
    np.testing.assert_allclose(pd_with_gravity(arm, state, target, kp=10.0, kd=2.0), [1.4 + 9.81])
    # kd = 2 √25 = 10
    np.testing.assert_allclose(computed_torque(arm, state, target, kp=25.0), [4 * (3 + 10 * 0.2 + 25 * 0.1) + 9.81])
    np.testing.assert_allclose(computed_torque(arm, state, target, kp=25.0, kd=1.0), [4 * (3 + 0.2 + 2.5) + 9.81])


def test_a_torque_is_never_nan(planar: Callable) -> None:
    arm, state = planar(2.0), JointState(joints_rad=np.zeros(1), velocity_rad_s=np.zeros(1))
    lost = Reference(joints_rad=np.array([np.nan]))
    for controller in (computed_torque, pd_with_gravity):
        with pytest.raises(KinemaError, match=r"the state or target is not finite, .*: \[nan\]"):
            controller(arm, state, lost, kp=1.0, kd=1.0)


def test_operational_space_refuses_where_the_hand_cannot_move(planar: Callable) -> None:
    arm = planar(1.0, 1.0)
    state = JointState(joints_rad=np.array([0.3, 0.5]), velocity_rad_s=np.zeros(2))
    with pytest.raises(KinemaError, match=r"singular posture \[0\.3, 0\.5\]: a direction of the hand is lost"):
        operational_space(arm, state, HandReference(pose=np.eye(4)), kp=1.0)
