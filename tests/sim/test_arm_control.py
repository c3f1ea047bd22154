"""Controllers of a simulated 7-joint arm: errors that follow their closed form, and what is missing shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kinema.actions.control import (
    HandReference,
    JointState,
    Reference,
    computed_torque,
    operational_space,
    pd,
    pd_with_gravity,
)
from kinema.actions.kinematics import pose_error
from kinema.actions.poses import pose
from kinema.actions.rotations import exp

pytest.importorskip("mink")

import mujoco

from kinema.sim.arm import MujocoArm, panda

READY = np.array([0, -np.pi / 4, 0, -3 * np.pi / 4, 0, np.pi / 2, np.pi / 4])
DT = 0.001
KP = 25.0  # [1/s²]: 5 rad/s


class Weightless(MujocoArm):
    """An arm that forgets gravity."""

    def bias(self, joints_rad: np.ndarray, velocity_rad_s: np.ndarray) -> np.ndarray:
        return super().bias(joints_rad, velocity_rad_s) - super().bias(joints_rad, np.zeros(7))


@pytest.fixture(scope="module")
def arm() -> MujocoArm:
    return panda()


def simulate(
    arm: MujocoArm, torque: Callable[[JointState, float], np.ndarray], start_rad: np.ndarray, duration_s: float
) -> np.ndarray:
    """Return the joints (T + 1, 7) of MuJoCo's arm under `torque`, at every millisecond."""
    arm.model.opt.timestep = DT
    data = mujoco.MjData(arm.model)
    data.qpos[:] = start_rad
    joints = [data.qpos.copy()]
    for step in range(round(duration_s / DT)):
        state = JointState(joints_rad=data.qpos.copy(), velocity_rad_s=data.qvel.copy())
        data.qfrc_applied[:] = torque(state, step * DT)
        mujoco.mj_step(arm.model, data)
        joints.append(data.qpos.copy())
    assert not any(warning.number for warning in data.warning), "the simulation is unstable"
    return np.array(joints)


def critically_damped(time_s: np.ndarray) -> np.ndarray:
    return (1 + np.sqrt(KP) * time_s) * np.exp(-np.sqrt(KP) * time_s)


def test_the_error_under_computed_torque_is_critically_damped(arm: MujocoArm) -> None:
    offset = np.array([0.3, -0.2, 0.3, 0.2, -0.4, 0.3, 0.5])
    target = Reference(joints_rad=READY)
    joints = simulate(arm, lambda state, _: computed_torque(arm, state, target, kp=KP), READY + offset, 1.5)
    expected = critically_damped(np.arange(len(joints)) * DT)
    np.testing.assert_allclose((joints - READY) / offset, expected[:, None] * np.ones(7), atol=0.01)


def test_without_gravity_a_steady_offset_appears(arm: MujocoArm) -> None:
    kp, target, light = 400.0, Reference(joints_rad=READY), Weightless(arm.model, hand="tcp")
    whole = simulate(arm, lambda state, _: computed_torque(arm, state, target, kp=kp), READY, 1.0)
    lacking = simulate(arm, lambda state, _: computed_torque(light, state, target, kp=kp), READY, 2.0)
    assert np.abs(whole[-1] - READY).max() < 1e-6
    resting = lacking[-1]
    assert np.abs(resting - READY).max() > 0.05
    # at rest M kp e is what holds the arm up
    holding = kp * arm.mass(resting) @ (READY - resting)
    np.testing.assert_allclose(holding, arm.bias(resting, np.zeros(7)), atol=0.05)


def sine(time_s: float) -> Reference:
    amplitude, omega = 0.2, 2 * np.pi  # 1 Hz
    return Reference(
        joints_rad=READY + amplitude * np.sin(omega * time_s) * np.ones(7),
        velocity_rad_s=amplitude * omega * np.cos(omega * time_s) * np.ones(7),
        acceleration_rad_s2=-amplitude * omega**2 * np.sin(omega * time_s) * np.ones(7),
    )


def test_a_sine_is_followed_ten_times_closer_than_by_pd_of_equal_gains(arm: MujocoArm) -> None:
    kp, kd = 100.0, 20.0
    inertia = np.diag(arm.mass(READY))  # PD's gains are torques: equal means as stiff for each joint by itself
    ways: dict[str, Callable[[JointState, float], np.ndarray]] = {
        "computed torque": lambda state, t: computed_torque(arm, state, sine(t), kp=kp, kd=kd),
        "pd with gravity": lambda state, t: pd_with_gravity(arm, state, sine(t), kp=inertia * kp, kd=inertia * kd),
        "pd": lambda state, t: pd(state, sine(t), kp=inertia * kp, kd=inertia * kd),
    }
    wanted = np.array([sine(step * DT).joints_rad for step in range(2001)])
    rms = {}
    for name, way in ways.items():
        joints = simulate(arm, way, READY, 2.0)
        rms[name] = np.sqrt(np.mean((joints - wanted)[1000:] ** 2))  # the second period
    assert rms["computed torque"] <= min(rms["pd"], rms["pd with gravity"]) / 10, rms


def test_pd_with_gravity_comes_to_rest_on_the_target(arm: MujocoArm) -> None:
    target = Reference(joints_rad=READY + 0.1)
    kp, kd = np.array([200.0] * 4 + [50.0] * 3), np.array([40.0] * 4 + [5.0] * 3)
    joints = simulate(arm, lambda state, _: pd_with_gravity(arm, state, target, kp=kp, kd=kd), READY, 3.0)
    np.testing.assert_allclose(joints[-1], target.joints_rad, atol=1e-3)
    hanging = simulate(arm, lambda state, _: pd(state, target, kp=kp, kd=kd), READY, 3.0)
    assert np.abs(hanging[-1] - target.joints_rad).max() > 0.05


def test_operational_space_agrees_with_robosuites_formulas(arm: MujocoArm) -> None:
    with np.load(Path(__file__).resolve().parents[1] / "goldens" / "arm7_osc.npz") as stored:
        goldens = dict(stored)
    for q, offset, posture, torque in zip(
        *(goldens[k] for k in ("joints", "offset", "posture", "torque")), strict=True
    ):
        goal = arm.forward(q)
        goal[:3, 3] += offset
        state = JointState(joints_rad=q, velocity_rad_s=np.zeros(7))
        found = operational_space(arm, state, HandReference(pose=goal), kp=10.0, posture_rad=posture)
        np.testing.assert_allclose(found, torque, atol=1e-6)


def test_the_error_of_the_hand_in_operational_space_is_critically_damped(arm: MujocoArm) -> None:
    start = arm.forward(READY)
    goal = pose(start[:3, 3] + [0.05, 0.1, -0.05], exp(np.array([0.0, 0.0, 0.3])) @ start[:3, :3])
    target = HandReference(pose=goal)
    joints = simulate(arm, lambda s, _: operational_space(arm, s, target, kp=KP, posture_rad=READY), READY, 1.0)
    errors = np.array([pose_error(arm.forward(q), goal) for q in joints])
    moving = [0, 1, 2, 5]
    expected = critically_damped(np.arange(len(joints)) * DT)
    np.testing.assert_allclose(errors[:, moving] / errors[0, moving], expected[:, None] * np.ones(4), atol=0.01)
    np.testing.assert_allclose(errors[:, [3, 4]], 0, atol=3e-3)


def test_the_posture_changes_in_the_null_space_alone(arm: MujocoArm) -> None:
    start, aside = arm.forward(READY), READY + [0.5, 0, -0.5, 0, 0, 0, 0]
    target = HandReference(pose=start)
    joints = simulate(arm, lambda s, _: operational_space(arm, s, target, kp=KP, posture_rad=aside), READY, 1.0)
    assert np.abs(joints[-1] - READY).max() > 0.1
    errors = np.array([pose_error(arm.forward(q), start) for q in joints[::20]])
    assert np.abs(errors).max() < 2e-3
