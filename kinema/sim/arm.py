"""Arms out of MJCF or URDF files: kinematics and dynamics by MuJoCo, steps of inverse kinematics by mink."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np

from kinema.actions.control import DynamicArm
from kinema.core.errors import KinemaError, UnavailableError, unknown

try:
    import mink
except ModuleNotFoundError as error:
    raise UnavailableError(f"arms need the package {error.name!r}\nfix: pip install 'kinema[arm]'") from error

PANDA = Path(__file__).with_name("panda.xml")


class MujocoArm(DynamicArm):
    """The hinges between the world and the site or body `hand` of a model; other joints stay at their reference.

    `frame` is "world", that of the model.
    """

    frame = "world"

    def __init__(self, model: mujoco.MjModel, *, hand: str) -> None:
        self.model, self._configuration = model, mink.Configuration(model)
        self._data = self._configuration.data
        self._is_site, self._hand, body = _find(model, hand)
        chain = _hinges(model, body)
        if not chain:
            raise KinemaError(f"no hinge moves {hand!r}")
        self.joints = tuple(model.joint(joint).name for joint in chain)
        if "" in self.joints:
            raise KinemaError(f"joint {self.joints.index('') + 1} of {len(chain)} towards {hand!r} has no name")
        self._positions, self._velocities = model.jnt_qposadr[chain], model.jnt_dofadr[chain]
        limited = model.jnt_limited[chain].astype(bool)
        self.low_rad = np.where(limited, model.jnt_range[chain, 0], -np.inf)
        self.high_rad = np.where(limited, model.jnt_range[chain, 1], np.inf)
        self._task = mink.FrameTask(hand, "site" if self._is_site else "body", position_cost=1.0, orientation_cost=1.0)
        self._posture = mink.PostureTask(model, cost=1.0)
        self._limit = mink.ConfigurationLimit(model, gain=1.0)

    def forward(self, joints_rad: np.ndarray) -> np.ndarray:
        """Return the pose of the hand in the world, T_world_hand (4, 4)."""
        self._place(joints_rad)
        mujoco.mj_kinematics(self.model, self._data)
        data, hand, pose = self._data, self._hand, np.eye(4)
        position, rotation = (data.site_xpos, data.site_xmat) if self._is_site else (data.xpos, data.xmat)
        pose[:3, :3], pose[:3, 3] = rotation[hand].reshape(3, 3), position[hand]
        return pose

    def jacobian(self, joints_rad: np.ndarray) -> np.ndarray:
        """Return the Jacobian (6, N) of the hand in the axes of the world."""
        self._place(joints_rad)
        mujoco.mj_kinematics(self.model, self._data)
        mujoco.mj_comPos(self.model, self._data)
        linear, angular = np.zeros((3, self.model.nv)), np.zeros((3, self.model.nv))
        jacobian = mujoco.mj_jacSite if self._is_site else mujoco.mj_jacBody
        jacobian(self.model, self._data, linear, angular, self._hand)
        return np.concatenate([linear, angular])[:, self._velocities]

    def step(
        self,
        joints_rad: np.ndarray,
        T_frame_hand: np.ndarray,
        *,
        posture_rad: np.ndarray,
        damping: float,
        limited: bool,
    ) -> np.ndarray:
        """Return the joints' motion (N,) of mink's quadratic program, solved by DAQP; e is the logarithm in SE(3)."""
        self._place(posture_rad)
        self._posture.set_target(self._data.qpos)
        self._posture.set_cost(damping)
        self._task.set_target(mink.SE3.from_matrix(T_frame_hand))
        self._place(joints_rad)
        self._configuration.update()
        limits = [self._limit] if limited else []
        try:
            motion = mink.solve_ik(self._configuration, [self._task, self._posture], 1.0, "daqp", limits=limits)
        except mink.NoSolutionFound as error:
            raise KinemaError(f"mink finds no step within the limits with damping {damping:g}: {error}") from error
        return motion[self._velocities]

    def mass(self, joints_rad: np.ndarray) -> np.ndarray:
        """Return the joint-space inertia M (N, N) [kg m²], with the motors' armature."""
        self._place(joints_rad)
        mujoco.mj_fwdPosition(self.model, self._data)
        unit, column, columns = np.eye(self.model.nv), np.zeros(self.model.nv), []
        for joint in self._velocities:
            # by columns, because MuJoCo's releases store the matrix differently
            mujoco.mj_mulM(self.model, self._data, column, unit[joint])
            columns.append(column[self._velocities])
        return np.stack(columns, axis=1)

    def bias(self, joints_rad: np.ndarray, velocity_rad_s: np.ndarray) -> np.ndarray:
        """Return the torque (N,) [N m] against Coriolis, centrifugal, gravity and passive forces: springs and dampers.

        Dry friction is a KinemaError: at rest it may be any torque.
        """
        if self.model.dof_frictionloss[self._velocities].any():
            raise KinemaError("the model's joints have dry friction (frictionloss), which is no function of the state")
        self._place(joints_rad)
        self._data.qvel[self._velocities] = velocity_rad_s
        mujoco.mj_fwdPosition(self.model, self._data)
        mujoco.mj_fwdVelocity(self.model, self._data)
        return (self._data.qfrc_bias - self._data.qfrc_passive)[self._velocities]

    def _place(self, joints_rad: np.ndarray) -> None:
        joints = np.asarray(joints_rad, np.float64)
        if joints.shape != (len(self.joints),) or not np.isfinite(joints).all():
            raise KinemaError(f"joints {joints.tolist()!r:.60}, expected {len(self.joints)} finite numbers")
        self._data.qpos[self._positions] = joints


def load_arm(path: Path, *, hand: str) -> MujocoArm:
    """Return the arm of an MJCF or URDF file up to its site or body `hand`; a URDF's fixed links stay bodies."""
    try:
        spec = mujoco.MjSpec.from_file(str(path))
        spec.compiler.fusestatic = False
        model = spec.compile()
    except (ValueError, OSError) as error:
        raise KinemaError(f"cannot read {path} as MJCF or URDF: {error}") from error
    return MujocoArm(model, hand=hand)


def panda(hand: str = "tcp") -> MujocoArm:
    """Return a Franka Emika Panda up to its "tcp", between the fingers, or its "flange"; masses without the fingers."""
    return load_arm(PANDA, hand=hand)


def _find(model: mujoco.MjModel, name: str) -> tuple[bool, int, int]:
    """Return whether `name` is a site, its number, and the body that carries it."""
    site = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, name)
    if site >= 0:
        return True, site, int(model.site_bodyid[site])
    body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name)
    if body < 0:
        sites = [model.site(i).name for i in range(model.nsite)]
        raise unknown("site or body", name, [*sites, *(model.body(i).name for i in range(model.nbody))])
    return False, body, body


def _hinges(model: mujoco.MjModel, body: int) -> list[int]:
    """Return the numbers of the joints from the world to `body`; one that is no hinge is an error."""
    chain: list[int] = []
    while body > 0:
        first = int(model.body_jntadr[body])
        chain = [*range(first, first + int(model.body_jntnum[body])), *chain]
        body = int(model.body_parentid[body])
    for joint in chain:
        if model.jnt_type[joint] != mujoco.mjtJoint.mjJNT_HINGE:
            raise KinemaError(f"joint {model.joint(joint).name!r} is not a hinge; arms have revolute joints only")
    return chain
