"""Arm-7, the Panda: published geometry, Pinocchio's numbers, and inverse kinematics over its whole workspace."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from kinema.actions.inverse_kinematics import InverseKinematics, Unreached
from kinema.actions.kinematics import check_limits, damped_step, null_space, pose_error
from kinema.actions.rotations import distance_rad, log
from kinema.core.errors import KinemaError, UnavailableError

pytest.importorskip("mink")

import mujoco

from kinema.sim.arm import PANDA, MujocoArm, load_arm, panda

READY = np.array([0, -np.pi / 4, 0, -3 * np.pi / 4, 0, np.pi / 2, np.pi / 4])
# Craig's modified DH: a and alpha of the link before, d of the joint; the last row is the flange
DH = [
    (0, 0, 0.333), (0, -np.pi / 2, 0), (0, np.pi / 2, 0.316), (0.0825, np.pi / 2, 0), (-0.0825, -np.pi / 2, 0.384),
    (0, np.pi / 2, 0), (0.088, np.pi / 2, 0), (0, 0, 0.107),
]  # fmt: skip
GOLDENS = Path(__file__).resolve().parents[1] / "goldens" / "arm7.npz"


@pytest.fixture(scope="module")
def arm() -> MujocoArm:
    return panda()


@pytest.fixture(scope="module")
def pinocchio() -> dict[str, np.ndarray]:
    with np.load(GOLDENS) as stored:
        return dict(stored)


def flange_by_dh(joints: np.ndarray) -> np.ndarray:
    made = np.eye(4)
    for (a, alpha, d), q in zip(DH, [*joints, 0.0], strict=True):
        c, s, ca, sa = np.cos(q), np.sin(q), np.cos(alpha), np.sin(alpha)
        made = made @ [[c, -s, 0, a], [s * ca, c * ca, -sa, -d * sa], [s * sa, c * sa, ca, d * ca], [0, 0, 0, 1]]
    return made


@pytest.mark.parametrize(
    ("hand", "joints", "position"),
    [
        ("flange", np.zeros(7), (0.088, 0, 0.926)),
        ("tcp", np.zeros(7), (0.088, 0, 0.8226)),
        ("flange", READY, (0.30689, 0, 0.59028)),
        ("tcp", READY, (0.30689, 0, 0.48688)),
    ],
)
def test_the_published_geometry(hand: str, joints: np.ndarray, position: tuple[float, ...]) -> None:
    np.testing.assert_allclose(panda(hand).forward(joints)[:3, 3], position, atol=5e-6)


def test_singular_values_where_it_is_ready_and_where_it_is_straight() -> None:
    flange = panda("flange")
    values = np.linalg.svd(flange.jacobian(READY), compute_uv=False)
    assert values[-1] == pytest.approx(0.2244, abs=5e-5)
    assert np.prod(values) == pytest.approx(0.0802, abs=5e-5)
    assert np.linalg.svd(flange.jacobian(np.zeros(7)), compute_uv=False)[-1] < 1e-12


def test_the_hand_agrees_with_modified_dh_on_1000_joints() -> None:
    flange, rng = panda("flange"), np.random.default_rng(0)
    for joints in rng.uniform(-np.pi, np.pi, (1000, 7)):
        np.testing.assert_allclose(flange.forward(joints), flange_by_dh(joints), atol=1e-9)


def test_the_hand_agrees_with_pinocchio_on_1000_joints(arm: MujocoArm, pinocchio: dict[str, np.ndarray]) -> None:
    for joints, position, rotation in zip(*(pinocchio[k] for k in ("joints", "position", "rotation")), strict=True):
        pose = arm.forward(joints)
        np.testing.assert_allclose(pose[:3, 3], position, atol=1e-9)
        np.testing.assert_allclose(pose[:3, :3], rotation, atol=1e-9)


def test_dynamics_agree_with_pinocchio_and_with_mujocos_own_inverse(
    arm: MujocoArm, pinocchio: dict[str, np.ndarray]
) -> None:
    data = mujoco.MjData(arm.model)
    for i in range(50):
        q, v, a = (pinocchio[key][i] for key in ("joints", "velocity", "acceleration"))
        mass, bias = arm.mass(q), arm.bias(q, v)
        np.testing.assert_allclose(arm.jacobian(q), pinocchio["jacobian"][i], atol=1e-9)
        np.testing.assert_allclose(mass, pinocchio["mass"][i], atol=1e-6)
        np.testing.assert_allclose(bias, pinocchio["bias"][i], atol=1e-6)
        np.testing.assert_allclose(mass @ a + bias, pinocchio["torque"][i], atol=1e-6)
        data.qpos[:], data.qvel[:], data.qacc[:] = np.clip(q, arm.low_rad, arm.high_rad), v, a
        mujoco.mj_inverse(arm.model, data)
        within = data.qpos.copy()
        np.testing.assert_allclose(arm.mass(within) @ a + arm.bias(within, v), data.qfrc_inverse, atol=1e-6)


def test_the_jacobian_agrees_with_central_differences(arm: MujocoArm) -> None:
    step = 1e-5
    for joints in np.random.default_rng(1).uniform(-np.pi, np.pi, (50, 7)):
        jacobian = arm.jacobian(joints)
        for i, move in enumerate(step * np.eye(7)):
            after, before = arm.forward(joints + move), arm.forward(joints - move)
            turn = log(after[:3, :3] @ before[:3, :3].T)
            column = np.concatenate([after[:3, 3] - before[:3, 3], turn]) / (2 * step)
            np.testing.assert_allclose(jacobian[:, i], column, atol=1e-8)


def solved(arm: MujocoArm, count: int, seed: int) -> int:
    """Return how many of `count` reachable poses were solved; limits and tolerances are checked on the way."""
    rng, solver, done = np.random.default_rng(seed), InverseKinematics(), 0
    for joints in rng.uniform(arm.low_rad, arm.high_rad, (count, 7)):
        target = arm.forward(joints)
        try:
            found = solver.solve(arm, target, start_rad=READY, rng=rng)
        except Unreached as error:
            check_limits(arm, error.closest.joints_rad[None], "closest")
            continue
        check_limits(arm, found.joints_rad[None], "found")
        reached = arm.forward(found.joints_rad)
        assert np.linalg.norm(reached[:3, 3] - target[:3, 3]) <= 1e-4
        assert distance_rad(reached[:3, :3], target[:3, :3]) <= 1e-3
        done += 1
    return done


def test_nearly_all_reachable_poses_are_solved_within_limits(arm: MujocoArm) -> None:
    assert solved(arm, 100, 0) >= 99


def within_limits(rng: np.random.Generator, arm: MujocoArm, spread_rad: float) -> np.ndarray:
    return np.clip(READY + rng.normal(size=7) * spread_rad, arm.low_rad, arm.high_rad)


def test_a_step_of_mink_far_from_limits_is_the_damped_one(arm: MujocoArm) -> None:
    rng = np.random.default_rng(0)
    for damping in (1e-3, 1e-2, 1e-1, 1.0):
        joints, posture = within_limits(rng, arm, 0.1), READY
        target = arm.forward(joints + 1e-5 * rng.normal(size=7))
        jacobian, aside = arm.jacobian(joints), posture - joints
        error = pose_error(arm.forward(joints), target)
        by_hand = aside + damped_step(jacobian, error - jacobian @ aside, damping)
        for limited in (False, True):
            step = arm.step(joints, target, posture_rad=posture, damping=damping, limited=limited)
            np.testing.assert_allclose(step, by_hand, atol=1e-7)


def test_a_step_of_mink_goes_as_far_as_the_limits_and_no_further(arm: MujocoArm) -> None:
    rng, blocked = np.random.default_rng(0), 0
    for _ in range(100):
        joints, target = (rng.uniform(arm.low_rad, arm.high_rad) for _ in range(2))
        settings = {"posture_rad": joints, "damping": 0.1}
        free = joints + arm.step(joints, arm.forward(target), **settings, limited=False)
        kept = joints + arm.step(joints, arm.forward(target), **settings, limited=True)
        blocked += not np.allclose(kept, free)
        assert (kept >= arm.low_rad - 1e-6).all()
        assert (kept <= arm.high_rad + 1e-6).all()
    assert blocked > 10


def test_limits_that_nothing_meets_are_an_error() -> None:
    model = panda().model
    model.jnt_range[0] = 1.0, -1.0
    arm = MujocoArm(model, hand="tcp")
    with pytest.raises(KinemaError, match=r"mink finds no step within the limits with damping 0\.1: "):
        arm.step(READY, arm.forward(READY), posture_rad=READY, damping=0.1, limited=True)


def test_other_joints_of_a_model_stay_out_of_it() -> None:
    one = '<body><joint name="{}" type="{}" axis="0 0 1" range="{}" limited="true"/><geom size="0.1"/>{}</body>'
    arm_body = one.format("turn", "hinge", "-1 1", '<site name="tip" pos="1 0 0"/>')
    # the reference of the second is 0, beyond its limits
    bodies = arm_body + one.format("lift", "slide", "0.5 1", "") + "<body><freejoint/><geom size='0.1'/></body>"
    model = mujoco.MjModel.from_xml_string(
        f"<mujoco><compiler angle='radian'/><worldbody>{bodies}</worldbody></mujoco>"
    )
    arm = MujocoArm(model, hand="tip")
    assert arm.joints == ("turn",)
    found = InverseKinematics(restarts=0).solve(arm, arm.forward(np.array([0.7])), start_rad=np.array([-0.3]))
    np.testing.assert_allclose(found.joints_rad, 0.7, atol=1e-3)


def test_a_posture_is_preferred_where_the_hand_does_not_care(arm: MujocoArm) -> None:
    rng, solver, nearer = np.random.default_rng(0), InverseKinematics(restarts=0), []
    for _ in range(20):
        joints = within_limits(rng, arm, 0.5)
        target, start = arm.forward(joints), np.clip(joints + 0.2 * rng.normal(size=7), arm.low_rad, arm.high_rad)
        free, led = (solver.solve(arm, target, start_rad=start, posture_rad=posture) for posture in (None, READY))
        assert led.position_error_m <= 1e-4
        nearer.append(np.linalg.norm(led.joints_rad - READY) / np.linalg.norm(free.joints_rad - READY))
    assert np.mean(nearer) < 0.97
    assert max(nearer) < 1.001


def test_from_a_straight_arm_no_step_jumps_and_restarts_find_the_way(arm: MujocoArm) -> None:
    straight, rng = np.clip(np.zeros(7), arm.low_rad, arm.high_rad), np.random.default_rng(0)
    for _ in range(10):
        target = arm.forward(within_limits(rng, arm, 0.5))
        size = np.linalg.norm(pose_error(arm.forward(straight), target))
        step = arm.step(straight, target, posture_rad=straight, damping=0.1, limited=False)
        # a logarithm in SE(3) is longer than position and turn apart, by π/2 at most for a half turn
        assert np.linalg.norm(step) <= np.pi / 2 * size / (2 * 0.1)
        found = InverseKinematics().solve(arm, target, start_rad=straight, rng=rng)
        assert found.position_error_m <= 1e-4


@pytest.mark.parametrize("beyond_m", [0.3, 2.0])
def test_beyond_reach_is_an_error_with_the_residual(arm: MujocoArm, beyond_m: float) -> None:
    # straight up: the wrist is 0.333 + 0.316 + 0.384 m high at most, the hand another 0.088 aside or 0.2104 above it
    highest = 0.333 + 0.316 + 0.384 + np.hypot(0.088, 0.2104)
    target = arm.forward(READY)
    target[:3, 3] = 0, 0, highest + beyond_m
    with pytest.raises(Unreached, match=r"unreachable") as caught:
        InverseKinematics(restarts=3).solve(arm, target, start_rad=READY, rng=np.random.default_rng(0))
    closest = caught.value.closest
    assert np.isfinite(closest.joints_rad).all()
    check_limits(arm, closest.joints_rad[None], "closest")
    assert closest.position_error_m >= beyond_m
    reached = arm.forward(closest.joints_rad)
    assert closest.position_error_m == pytest.approx(np.linalg.norm(reached[:3, 3] - target[:3, 3]))


def test_motion_in_the_null_space_leaves_the_hand(arm: MujocoArm) -> None:
    joints, start = READY.copy(), arm.forward(READY)
    for _ in range(500):
        jacobian = arm.jacobian(joints)
        aside = null_space(jacobian, np.eye(7)[0])
        assert np.abs(jacobian @ aside).max() <= 1e-12
        joints = joints + 1e-3 * aside + damped_step(jacobian, pose_error(arm.forward(joints), start), 1e-4)
    assert np.abs(joints - READY).max() > 0.1
    np.testing.assert_allclose(arm.forward(joints), start, atol=1e-6)


def test_without_damping_a_step_from_the_straight_arm_explodes(arm: MujocoArm) -> None:
    jacobian = arm.jacobian(np.zeros(7))
    error = np.array([0.1, 0.1, -0.1, 0.1, 0.1, 0.1])
    undamped = np.linalg.pinv(jacobian + 1e-9 * np.random.default_rng(0).normal(size=(6, 7)), rcond=0) @ error
    assert np.linalg.norm(undamped) > 1e6
    damped = damped_step(jacobian, error, 0.1)
    assert np.linalg.norm(damped) <= np.linalg.norm(error) / 0.2
    after = pose_error(arm.forward(damped), arm.forward(np.zeros(7)) + 0)
    assert np.linalg.norm(after) > 0.05  # and yet it moves


def test_without_mink_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mink", None)
    monkeypatch.delitem(sys.modules, "kinema.sim.arm")
    with pytest.raises(UnavailableError, match=r"arms need the package 'mink'\nfix: pip install 'kinema\[arm\]'"):
        importlib.import_module("kinema.sim.arm")


INERTIAL = '<inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial>'
URDF = f"""<robot name="two"><link name="base"/><link name="tool"/>
<link name="upper">{INERTIAL}</link><link name="lower">{INERTIAL}</link>
<joint name="a" type="revolute"><parent link="base"/><child link="upper"/><axis xyz="0 0 1"/>
  <limit lower="-2" upper="2" effort="1" velocity="1"/></joint>
<joint name="b" type="continuous"><parent link="upper"/><child link="lower"/><origin xyz="1 0 0"/>
  <axis xyz="0 0 1"/></joint>
<joint name="c" type="fixed"><parent link="lower"/><child link="tool"/><origin xyz="1 0 0"/></joint></robot>"""


def test_a_urdf_is_read_up_to_a_fixed_link(tmp_path: Path) -> None:
    path = tmp_path / "two.urdf"
    path.write_text(URDF, "utf-8")
    arm = load_arm(path, hand="tool")
    assert arm.joints == ("a", "b")
    np.testing.assert_allclose(arm.low_rad, [-2, -np.inf])
    np.testing.assert_allclose(arm.forward(np.array([0.0, np.pi / 2]))[:3, 3], [1, 1, 0], atol=1e-12)
    found = InverseKinematics().solve(
        arm, arm.forward(np.array([1.0, 0.5])), start_rad=np.zeros(2), rng=np.random.default_rng(0)
    )
    np.testing.assert_allclose(arm.forward(found.joints_rad), arm.forward(np.array([1.0, 0.5])), atol=1e-3)


def test_files_and_names_that_do_not_fit_are_named(tmp_path: Path, arm: MujocoArm) -> None:
    with pytest.raises(KinemaError, match=r"unknown site or body 'tpc'; did you mean 'tcp'"):
        panda("tpc")
    with pytest.raises(KinemaError, match="no hinge moves 'world'"):
        load_arm(PANDA, hand="world")
    with pytest.raises(KinemaError, match=r"cannot read .*missing\.xml as MJCF or URDF"):
        load_arm(tmp_path / "missing.xml", hand="tcp")
    (tmp_path / "two.urdf").write_text(URDF.replace("continuous", "prismatic"), "utf-8")
    with pytest.raises(KinemaError, match="joint 'b' is not a hinge; arms have revolute joints only"):
        load_arm(tmp_path / "two.urdf", hand="tool")
    with pytest.raises(KinemaError, match=r"joints \[0\.0.*\], expected 7 finite numbers"):
        arm.forward(np.zeros(6))
    with pytest.raises(KinemaError, match="expected 7 finite numbers"):
        arm.jacobian(np.full(7, np.nan))


def bent(joint: str) -> MujocoArm:
    """Return an arm of one hinge with the given attributes."""
    hinge = f"<body><joint type='hinge' axis='0 1 0' {joint}/><geom size='0.1' pos='1 0 0'/><site name='tip'/></body>"
    return MujocoArm(mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{hinge}</worldbody></mujoco>"), hand="tip")


def test_springs_and_dampers_are_part_of_the_bias() -> None:
    """A damper of 3 N m s/rad and a spring of 2 N m/rad, on top of gravity and Coriolis forces."""
    free, loaded = bent("name='j'"), bent("name='j' damping='3' stiffness='2'")
    q, v = np.array([0.5]), np.array([-0.7])
    np.testing.assert_allclose(loaded.bias(q, v) - free.bias(q, v), 2 * q + 3 * v, atol=1e-9)
    np.testing.assert_allclose(loaded.bias(q, 0 * v) - free.bias(q, 0 * v), 2 * q, atol=1e-9)


def test_joints_without_a_name_and_with_dry_friction_are_refused() -> None:
    with pytest.raises(KinemaError, match="joint 1 of 1 towards 'tip' has no name"):
        bent("")
    arm = bent("name='j' frictionloss='1'")
    assert arm.forward(np.zeros(1)).shape == (4, 4)
    with pytest.raises(KinemaError, match=r"dry friction \(frictionloss\), which is no function of the state"):
        arm.bias(np.zeros(1), np.zeros(1))
